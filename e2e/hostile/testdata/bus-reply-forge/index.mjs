// Asks the host for answers on subjects of others: what the host may say, a
// plugin might have it say.
import { base, baseOf, Bus, tenant, tool } from "./bus.mjs";

const call = (id) => JSON.stringify({ type: "host.call", id, method: "host.log", params: { level: "info", message: "hello" } });

export const tools = [tool("attack", async ({ victim, victimGeneration = 1 }) => {
  const other = baseOf(tenant, victim, victimGeneration);
  const bus = await Bus.open();
  bus.send(`SUB ${base}.in.> 1\r\n`);
  const forged = [
    `${other}.in.tool`, `${other}.in.stop`, `${other}.in.reply.1`, `${other}.reply.1`, `${other}.out.ready`,
    `${base}.in.tool`, `${base}.in.stop`, `${base}.in.cancel`, `${base}.in.reply`, `${base}.in.reply.a.*`, `${base}.in.reply.>`,
    `${base}.reply.1`, `${base}.out.host`, "_INBOX.x", ">", "$SYS.REQ.SERVER.PING",
  ];
  for (const [i, reply] of forged.entries()) {
    bus.pub(`${base}.out.host`, call(`forged-${i}`), reply);
    bus.pub(`${base}.out.hello`, JSON.stringify({ type: "hello", wire: [1] }), reply);
  }
  await bus.flush();
  const honest = await bus.ask("host", JSON.parse(call("honest")));
  const stolen = [...bus.heard.matchAll(/MSG (\S+) /g)].map(([, subject]) => subject).filter((subject) => !subject.includes(".in.reply.own"));
  bus.endLater();
  return { tried: forged.length, stolen: stolen.length, honest: honest?.type };
})];
