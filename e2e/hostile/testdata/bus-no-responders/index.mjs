// Tells the host that nobody took its call, so that it is sent again and again.
import { base, Bus, tool } from "./bus.mjs";

let seen = 0;

export const tools = [
  tool("attack", async () => {
    const liar = await Bus.open();
    const status = "NATS/1.0 503\r\n\r\n";
    liar.each((_, reply) => {
      seen++;
      liar.send(`HPUB ${reply} ${status.length} ${status.length}\r\n${status}\r\n`);
    });
    liar.send(`SUB ${base}.in.tool 1\r\n`);
    await liar.flush(500);
    setTimeout(() => liar.end(), 4000);
    return { lying: true };
  }),
  tool("never", () => new Promise(() => {})),
  tool("seen", async () => ({ seen })),
];
