// Reports thousands of names, as if programs had looked them up.
import { connect } from "node:net";
import { plugin } from "./hostile.mjs";
import { broker } from "./net.mjs";

const report = (name) => new Promise((resolve) => {
  const socket = connect(broker, () => socket.write(`REPORT ${name}\n`));
  socket.on("error", () => {});
  socket.resume();
  socket.on("close", resolve);
  setTimeout(() => socket.destroy(), 3000).unref();
});

export default plugin("hostile-network-reports", {
  attack: async () => {
    for (let i = 0; i < 8; i++) await Promise.all(Array.from({ length: 60 }, (_, j) => report(`wish-${i}-${j}.reports.example`)));
    return { reported: 480 };
  },
});
