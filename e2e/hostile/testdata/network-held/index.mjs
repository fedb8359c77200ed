// Keeps what it has when it is taken away: connections that are open already.
import { connect } from "node:net";
import { connect as secure } from "node:tls";
import { attempts, plugin } from "./hostile.mjs";
import { get } from "./net.mjs";

const kept = {};

/** A connection on which something came. */
const open = (name, begin, text) => () => new Promise((resolve, reject) => {
  const socket = begin();
  kept[name] = socket;
  socket.once(socket.encrypted ? "secureConnect" : "connect", () => socket.write(text));
  socket.once("data", () => resolve("open"));
  socket.on("data", () => {});
  socket.on("error", reject);
  socket.on("close", () => (socket.over = true));
});

const ask = (path, host, more = "") => `GET ${path} HTTP/1.1\r\nHost: ${host}\r\n${more}\r\n`;
const upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

export default plugin("hostile-network-held", {
  attack: () => attempts({
    plain: open("plain", () => connect({ host: "plain.held.example", port: 80 }), ask("/hold", "plain.held.example")),
    tls: open("tls", () => secure({ host: "tls.held.example", port: 443, servername: "tls.held.example" }), ask("/hold", "tls.held.example")),
    seen: open("seen", () => secure({ host: "seen.held.example", port: 443, servername: "seen.held.example" }), ask("/hold", "seen.held.example")),
    socket: open("socket", () => secure({ host: "seen.held.example", port: 443, servername: "seen.held.example" }), ask("/socket", "seen.held.example", upgrade)),
    idle: open("idle", () => secure({ host: "seen.held.example", port: 443, servername: "seen.held.example" }), ask("/", "seen.held.example")),
  }),
  after: async () => {
    for (const socket of Object.values(kept)) if (!socket.over) socket.write(ask("/again", "seen.held.example"));
    await new Promise((resolve) => setTimeout(resolve, 300));
    return {
      ...Object.fromEntries(Object.entries(kept).map(([name, socket]) => [name, socket.over ? "cut" : "open"])),
      ...(await attempts({ "new plain": get("http://plain.held.example/"), "new seen": get("https://seen.held.example/") })),
    };
  },
});
