// Begins, and takes its time to go on.
import { connect } from "node:net";
import { connect as secure } from "node:tls";
import { plugin } from "./hostile.mjs";
import { broker } from "./net.mjs";

const host = "api.slow.example";

/** How long a connection lasts that gets a byte of a text every 400 ms. */
const drip = (open, text) => new Promise((resolve) => {
  const began = Date.now();
  const socket = open();
  let i = 0;
  const timer = setInterval(() => socket.write(text.subarray(i, ++i)), 400);
  const end = () => (clearInterval(timer), clearTimeout(limit), socket.destroy(), resolve(Date.now() - began > 25_000 ? "goes on" : "ended"));
  const limit = setTimeout(end, 26_000);
  socket.on("error", end);
  socket.on("close", end);
  socket.resume();
});

export default plugin("hostile-network-slow", {
  attack: async () => {
    const [line, hello, head] = await Promise.all([
      drip(() => connect(broker), Buffer.from(`CONNECT ${"a".repeat(300)}.example:443\n`)),
      drip(() => connect({ host, port: 443 }), Buffer.concat([Buffer.from([0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc]), Buffer.alloc(600)])),
      drip(() => secure({ host, port: 443, servername: host }), Buffer.from(`GET /open/${"x".repeat(600)}`)),
    ]);
    return { line, hello, head };
  },
});
