// Connects and hangs up, without a pause.
import { connect } from "node:net";
import { once } from "node:events";
import { background, socketPath } from "./bus.mjs";

export const tools = background(async ({ ms = 4000 }) => {
  let attempts = 0;
  let greeted = 0;
  const end = Date.now() + ms;
  const storm = async () => {
    while (Date.now() < end) {
      attempts++;
      const socket = connect({ path: socketPath });
      socket.on("error", () => {});
      const heard = await Promise.race([once(socket, "data").then(() => true, () => false), once(socket, "close").then(() => false, () => false),
        new Promise((done) => setTimeout(done, Math.random() < 0.5 ? 1 : 300, false))]);
      if (heard) {
        greeted++;
        socket.write("CONNECT {}\r\nPING\r\n");
      }
      socket.destroy();
    }
  };
  await Promise.all(Array.from({ length: 16 }, storm));
  // Ten at once and five a second is what the host takes.
  return { attempts, greeted, bounded: greeted <= 10 + 5 * (ms / 1000) + 5 };
});
