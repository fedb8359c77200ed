// Puts into names, paths, hosts and server names what may alter the log that shows them.
import { plugin } from "./hostile.mjs";
import { ask, request, say, together } from "./net.mjs";

const to = { host: "api.forgery.example" };
const odd = { escape: "\x1b[2J\x1b]0;owned\x07", line: "%0d%0aallowed", tab: "\t", bidi: "\u202egnp", html: "<script>alert(1)</script>", quote: '","allowed":true,"x":"', long: "x".repeat(5000) };

export default plugin("hostile-network-forgery", {
  attack: () => together({
    granted: request(to, "GET /open/x"),
    ...Object.fromEntries(Object.entries(odd).flatMap(([name, text]) => [
      [`path, ${name}`, request(to, `GET /closed/${text}`)],
      [`method, ${name}`, request(to, `X${text} /open/x`)],
      [`host, ${name}`, request({ ...to }, "GET /open/x", [`X: y\r\nHost: ${text}`])],
      [`server name, ${name}`, say({ host: to.host, port: 443, servername: `${text}.forgery.example`.slice(0, 200) }, "GET / HTTP/1.0\r\n\r\n", 2000)],
      [`broker, ${name}`, ask(`CONNECT ${text}:80\n`)],
    ])),
  }),
});
