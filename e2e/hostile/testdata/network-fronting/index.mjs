// Asks a granted host for another one that is behind the same address.
import http2 from "node:http2";
import { plugin } from "./hostile.mjs";
import { Failure, request, statuses, together } from "./net.mjs";

const host = "api.front.example";
const other = "other.front.example";
const send = (...lines) => statuses({ host }, [...lines, "Connection: close", "", ""].join("\r\n"));

/** The same over HTTP/2. */
const two = (headers) => () => new Promise((resolve, reject) => {
  const session = http2.connect(`https://${host}`);
  session.on("error", reject);
  const stream = session.request({ ":path": "/", ...headers });
  stream.on("response", ({ ":status": status }) => (status === 200 ? resolve("200") : reject(new Failure(String(status))), session.close()));
  stream.on("error", reject);
  stream.resume();
  setTimeout(() => reject(new Failure("silent")), 4000).unref();
});

export default plugin("hostile-network-fronting", {
  attack: () => together({
    granted: request({ host }, "GET /"),
    "granted, with the port": send("GET / HTTP/1.1", `Host: ${host}:443`),
    "granted, over HTTP/2": two({}),
    "another host": send("GET / HTTP/1.1", `Host: ${other}`),
    "an address": send("GET / HTTP/1.1", "Host: 169.254.169.254"),
    "another port": send("GET / HTTP/1.1", `Host: ${host}:8443`),
    "a final dot": send("GET / HTTP/1.1", `Host: ${host}.`),
    "a user": send("GET / HTTP/1.1", `Host: ${host}@${other}`),
    "a path": send("GET / HTTP/1.1", `Host: ${other}/${host}`),
    "no host": send("GET / HTTP/1.1"),
    "no host, HTTP/1.0": send("GET / HTTP/1.0"),
    "an empty host": send("GET / HTTP/1.1", "Host:"),
    "two hosts": send("GET / HTTP/1.1", `Host: ${host}`, `Host: ${other}`),
    "two hosts, turned": send("GET / HTTP/1.1", `Host: ${other}`, `Host: ${host}`),
    "a list of hosts": send("GET / HTTP/1.1", `Host: ${host}, ${other}`),
    "a folded host": send("GET / HTTP/1.1", `Host: ${host}`, ` ${other}`),
    "a whole URL": send(`GET https://${other}/ HTTP/1.1`, `Host: ${host}`),
    "a whole URL, own host": send(`GET https://${host}/ HTTP/1.1`, `Host: ${other}`),
    "a URL of an address": send("GET http://169.254.169.254/latest HTTP/1.1", `Host: ${host}`),
    "a host in the path": send(`GET //${other}/ HTTP/1.1`, `Host: ${host}`),
    "a tunnel": send(`CONNECT ${other}:443 HTTP/1.1`, `Host: ${other}:443`),
    "a tunnel, own host": send(`CONNECT ${host}:443 HTTP/1.1`, `Host: ${host}:443`),
    "an asterisk": send("OPTIONS * HTTP/1.1", `Host: ${host}`),
    "trace": send("TRACE / HTTP/1.1", `Host: ${host}`),
    "authority": two({ ":authority": other }),
    "authority and host": two({ ":authority": other, host }),
    "host and authority": two({ ":authority": host, host: other }),
    "authority of an address": two({ ":authority": "169.254.169.254" }),
  }),
});
