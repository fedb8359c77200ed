// Listens wherever something may be said.
import { base, baseOf, Bus, generation, plugin, sleep, tenant, tool } from "./bus.mjs";

let spy;
let tried;

export const tools = [
  tool("attack", async ({ victim, victimGeneration = 1 }) => {
    const other = baseOf(tenant, victim, victimGeneration);
    const subjects = [
      ">", "*", "*.>", "ocmt.>", "ocmt.v1.*.*.*.in.>", "_INBOX.>", "_INBOX.*", "$SYS.>", "$JS.>", "_R_.>",
      `${other}.>`, `${other}.in.>`, `${other}.in.tool`, `${other}.reply.>`, `${other}.out.>`, `${baseOf("beta", victim, 1)}.>`,
      `${base}.>`, `${base}.out.>`, `${base}.reply.>`, `${base}.*`, baseOf(tenant, plugin, "*") + ".in.>",
      `${baseOf(tenant, plugin, generation - 1)}.in.>`, `${baseOf(tenant, plugin, generation + 1)}.in.>`,
    ];
    spy = await Bus.open({ echo: true });
    for (const [i, subject] of subjects.entries()) spy.send(`SUB ${subject} a${i}\r\nSUB ${subject} thieves b${i}\r\n`);
    await spy.flush();
    tried = 2 * subjects.length;
    const refused = spy.refusals.filter((text) => text.startsWith("Permissions Violation for Subscription")).length;
    return { tried, refused, all: refused === tried };
  }),
  tool("heard", async () => {
    await sleep(200);
    return { messages: (spy.heard.match(/^H?MSG /gm) ?? []).length, open: !spy.closed };
  }),
];
