// Has the broker tell the grants to hundreds who do not listen.
import { connect } from "node:net";
import { plugin } from "./hostile.mjs";
import { broker } from "./net.mjs";

const sockets = [];

export default plugin("hostile-network-watchers", {
  attack: async () => {
    for (let i = 0; i < 250; i++) {
      const socket = connect(broker);
      socket.on("error", () => {});
      socket.pause();
      socket.write("WATCH\n");
      sockets.push(socket);
    }
    await new Promise((resolve) => setTimeout(resolve, 1000));
    return { watchers: sockets.length };
  },
});
