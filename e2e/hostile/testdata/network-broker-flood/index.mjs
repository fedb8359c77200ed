// Takes all of the broker's connections: half-open, watching, idle, ended at once.
import { connect } from "node:net";
import { plugin } from "./hostile.mjs";
import { broker } from "./net.mjs";

/** Opens connections that say a text, and counts what becomes of them. */
async function open(count, text, ms) {
  const sockets = [];
  const seen = { held: 0, refused: 0, closed: 0 };
  for (let i = 0; i < count; i++) {
    const socket = connect(broker);
    let heard = "";
    socket.setEncoding("latin1");
    socket.on("error", () => {});
    socket.on("data", (data) => (heard += data));
    socket.on("close", () => (socket.over = heard.startsWith("DENIED limit") ? "refused" : "closed"));
    if (text) socket.write(text);
    sockets.push(socket);
  }
  // The broker accepts slowly; none is held for longer than 10 s.
  const held = () => sockets.filter((socket) => !socket.over).length;
  for (const end = Date.now() + ms; held() > 256 && Date.now() < end; ) await new Promise((resolve) => setTimeout(resolve, 50));
  for (const socket of sockets) {
    seen[socket.over ?? "held"]++;
    socket.destroy();
  }
  return seen;
}

export default plugin("hostile-network-broker-flood", {
  attack: async ({ text = "", count = 500, ms = 9000 }) => {
    const seen = await open(count, text, ms);
    return { seen: Object.entries(seen).join(" "), bounded: seen.held > 200 && seen.held <= 256 && seen.refused > 200 };
  },
});
