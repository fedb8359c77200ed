// Far more subscriptions than a plugin needs.
import { background, base, Bus } from "./bus.mjs";

export const tools = background(async ({ count = 20000 }) => {
  const bus = await Bus.open();
  for (let i = 0; i < count && !bus.closed; i++) {
    bus.send(`SUB ${base}.in.x${i} ${i + 1}\r\n`);
    if (i % 1000 === 999) await bus.flush(3000);
  }
  await bus.flush(3000);
  const refused = bus.refusals.filter((text) => /maximum subscriptions/i.test(text)).length;
  const closed = bus.closed;
  bus.end();
  return { count, refused, closed, bounded: closed || refused >= count - 64 };
});
