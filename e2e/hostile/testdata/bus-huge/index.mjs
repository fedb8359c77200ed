// Messages above the payload limit, said in every way that the protocol has.
import { background, base, Bus } from "./bus.mjs";

const LIMIT = 4 * 1024 * 1024;
const heads = [
  `PUB ${base}.out.host ${LIMIT + 1}`,
  `PUB ${base}.out.host ${base}.in.reply.x ${999999999}`,
  `PUB ${base}.out.host 99999999999999999999`,
  `PUB ${base}.out.host -1`,
  `HPUB ${base}.out.host 12 ${LIMIT + 1}`,
  `HPUB ${base}.out.host ${LIMIT + 1} 12`,
];

export const tools = background(async () => {
  const ends = [];
  for (const head of heads) {
    const bus = await Bus.open();
    bus.send(`${head}\r\n`);
    bus.send("x".repeat(64 * 1024));
    await bus.until(/-ERR/, 3000);
    ends.push(bus.refusals[0] ?? (bus.closed ? "closed" : "accepted"));
    bus.end();
  }
  return { accepted: ends.filter((end) => end === "accepted").length, ends };
});
