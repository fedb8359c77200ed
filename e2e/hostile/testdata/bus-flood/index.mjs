// Writes as fast as the socket takes it: messages of every size to subjects
// that the host listens on.
import { once } from "node:events";
import { base, Bus, tool } from "./bus.mjs";

const message = (verb, size) => `PUB ${base}.out.${verb} ${size}\r\n${"x".repeat(size)}\r\n`;

export const tools = [tool("attack", async ({ ms = 4000 }) => {
  const bus = await Bus.open();
  const chunk = message("progress", 64).repeat(400) + message("health", 20_000) + message("host", 60_000) + message("none", 128).repeat(400);
  let bytes = 0;
  let stalls = 0;
  const drained = () => Promise.race([once(bus.socket, "drain"), once(bus.socket, "close")]);
  for (const end = Date.now() + ms; Date.now() < end && !bus.closed; ) {
    bytes += chunk.length;
    if (!bus.socket.write(chunk)) {
      stalls++;
      await drained();
    }
  }
  const refused = bus.refusals;
  bus.endLater();
  return { bytes, perSecond: Math.round(bytes / (ms / 1000)), stalled: stalls > 0, refused };
})];
