// Leaves HTTP on a connection that is inspected.
import { plugin } from "./hostile.mjs";
import { request, statuses, together } from "./net.mjs";

const to = { host: "api.upgrade.example" };
const plain = { host: "plain.upgrade.example", port: 80, servername: undefined };
const key = ["Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="];
const up = (name) => ["Connection: Upgrade", `Upgrade: ${name}`];
const ask = (to, line, headers) => statuses(to, [`${line} HTTP/1.1`, `Host: ${to.host}`, ...headers, "", "GET /closed HTTP/1.1", `Host: ${to.host}`, "", ""].join("\r\n"), 800);

export default plugin("hostile-network-upgrade", {
  attack: () => together({
    granted: request(to, "GET /open/x"),
    "closed to sockets": ask(to, "GET /socket", [...up("websocket"), ...key]),
    "another protocol": ask(to, "GET /open/x", up("h2c")),
    "two protocols": ask(to, "GET /open/x", [...up("websocket, h2c"), ...key]),
    "twice": ask(to, "GET /open/x", [...up("websocket"), ...up("h2c"), ...key]),
    "a protocol of its own": ask(to, "GET /open/x", up("exfil/1")),
    "refused by the host": ask(to, "GET /open/x", [...up("websocket"), ...key]),
    "plain, h2c": ask(plain, "GET /open/x", [...up("h2c"), "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA"]),
    "plain, preface": statuses(plain, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00", 800),
    "plain, no HTTP": statuses(plain, "SSH-2.0-OpenSSH_9\r\n\r\n", 800),
  }),
});
