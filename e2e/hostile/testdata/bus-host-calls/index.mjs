// Host calls that were not granted, that do not exist, that are nonsense, and
// far too many.
import { base, Bus, tool } from "./bus.mjs";

const methods = ["host.emit", "host.exec", "host.call", "host.install", "host.grant", "host.config", "host.secret", "host.log.", "host", "", "HOST.LOG", "host.log\u0000", "__proto__", "constructor"];

export const tools = [tool("attack", async () => {
  const bus = await Bus.open();
  const codes = {};
  for (const method of methods) {
    const answer = await bus.ask("host", { type: "host.call", id: "1", method, params: {} }, 800);
    codes[method] = answer?.error?.code ?? (answer ? "accepted" : "nothing");
  }
  for (const [name, text] of Object.entries({
    huge: JSON.stringify({ type: "host.call", id: "1", method: "host.log", params: "x".repeat(70_000) }),
    deep: `{"type":"host.call","id":"1","method":"host.log","params":${"[".repeat(20_000)}${"]".repeat(20_000)}}`,
    list: "[]", nonsense: "host.log", noID: '{"type":"host.call","method":"host.log"}',
  })) codes[name] = (await bus.ask("host", text, 500)) ? "accepted" : "nothing";
  const begun = Date.now();
  for (let i = 0; i < 20_000; i++) {
    bus.pub(`${base}.out.host`, JSON.stringify({ type: "host.call", id: String(i), method: "host.log", params: { level: "error", message: `flood ${i}` } }), `${base}.in.reply.flood`);
  }
  bus.send(`SUB ${base}.in.reply.flood 9\r\n`);
  await bus.flush(10_000);
  const answered = (bus.heard.match(/in\.reply\.flood 9 /g) ?? []).length;
  const seconds = (Date.now() - begun) / 1000;
  bus.endLater();
  const accepted = Object.entries(codes).filter(([, code]) => code === "accepted").map(([name]) => name);
  return { accepted, codes, answered, bounded: answered <= 100 + 50 * seconds + 50 };
})];
