// Opens as many connections as it can and keeps them.
import { connect } from "node:net";
import { background, sleep, socketPath } from "./bus.mjs";

export const tools = background(async ({ count = 200, ms = 4000 }) => {
  const sockets = [];
  let greeted = 0;
  let open = 0;
  for (let i = 0; i < count; i++) {
    const socket = connect({ path: socketPath });
    let heard = false;
    socket.on("data", (text) => {
      if (heard) return;
      heard = true;
      greeted++;
      open++;
      socket.write("CONNECT {}\r\n");
    });
    socket.on("close", () => heard && open--);
    socket.on("error", () => {});
    sockets.push(socket);
  }
  await sleep(ms);
  const held = open;
  for (const socket of sockets) socket.destroy();
  return { count, greeted, held, bounded: held <= 2 };
});
