// Every way that Node has to a host, as any program uses it.
import dns from "node:dns";
import http from "node:http";
import http2 from "node:http2";
import https from "node:https";
import net from "node:net";
import tls from "node:tls";
import { promisify } from "node:util";
import Socket from "ws";

/** Reads a stream of text to its end. */
const whole = (stream) => new Promise((resolve, reject) => {
  let text = "";
  stream.setEncoding("utf8");
  stream.on("data", (piece) => (text += piece));
  stream.on("end", () => resolve(text));
  stream.on("error", reject);
});

const answer = (request) => new Promise((resolve, reject) => request.on("response", (response) => resolve(whole(response))).on("error", reject));

/** HTTP by hand. */
const raw = (socket, host) => {
  socket.write(`GET /raw HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`);
  return whole(socket).then((text) => text.split("\r\n\r\n").pop());
};

const two = (origin) => new Promise((resolve, reject) => {
  const session = http2.connect(origin).on("error", reject);
  const stream = session.request({ ":path": "/http2" }).on("error", reject);
  whole(stream).then(resolve, reject).finally(() => session.close());
  stream.end();
});

/** What comes back of a message. */
const echoed = (socket) => new Promise((resolve, reject) => {
  socket.on("open", () => socket.send("websocket"));
  socket.on("message", (data) => (resolve(String(data)), socket.close()));
  socket.on("error", reject);
});

/** The same with the WebSocket that Node has. */
const builtIn = (url) => new Promise((resolve, reject) => {
  const socket = new WebSocket(url);
  socket.onopen = () => socket.send("websocket");
  socket.onmessage = ({ data }) => (resolve(data), socket.close());
  socket.onerror = ({ error, message }) => reject(error ?? new Error(message));
});

const agent = new https.Agent({ keepAlive: true });

/** A second request on the connection of the first. */
async function kept(host, port) {
  const ask = () => answer(https.get({ host, port, path: "/kept", agent }));
  await ask();
  return ask();
}

const ways = (host, port, plain) => ({
  fetch: async () => (await fetch(`https://${host}:${port}/fetch`)).text(),
  "fetch without TLS": async () => (await fetch(`http://${host}:${plain}/fetch`)).text(),
  "fetch of a stream": async () => (await fetch(`https://${host}:${port}/body`, { method: "POST", duplex: "half", body: new Blob(["bo", "dy"]).stream() })).text(),
  https: () => answer(https.get(`https://${host}:${port}/https`)),
  "https, kept": () => kept(host, port),
  http: () => answer(http.get(`http://${host}:${plain}/http`)),
  net: () => raw(net.connect({ host, port: plain }), host),
  "net, four addresses": () => raw(net.connect({ host, port: plain, autoSelectFamily: true }), host),
  tls: () => raw(tls.connect({ host, port, servername: host, ALPNProtocols: ["http/1.1"] }), `${host}:${port}`),
  http2: () => two(`https://${host}:${port}`),
  ws: () => echoed(new Socket(`wss://${host}:${port}/socket`)),
  "ws without TLS": () => echoed(new Socket(`ws://${host}:${plain}/socket`)),
  WebSocket: () => builtIn(`wss://${host}:${port}/socket`),
  "dns.lookup": async () => (await promisify(dns.lookup)(host)).address,
  "dns.lookup of all": async () => (await dns.promises.lookup(host, { all: true })).map(({ address }) => address).join(" "),
  "dns.resolve": async () => (await promisify(dns.resolve)(host)).join(" "),
  "dns.promises.resolve4": async () => (await dns.promises.resolve4(host)).join(" "),
  "dns.Resolver": async () => (await new dns.promises.Resolver().resolve4(host)).join(" "),
});

/** The code of what is behind an error, or of the error itself. */
function codeOf(error) {
  const behind = error.cause ?? error.errors?.[0];
  return behind ? codeOf(behind) : error.code ?? String(error);
}

/** What comes of one way: the text, or the code of a proper error, and whether that took long. */
async function go(way) {
  const began = Date.now();
  const late = new Promise((resolve) => setTimeout(resolve, 15_000, { code: "never" }).unref());
  const went = way().then((text) => ({ text }), (error) => ({ code: codeOf(error), proper: error instanceof Error }));
  return { ...(await Promise.race([went, late])), slow: Date.now() - began > 5000 };
}

export default {
  id: "node-apis",
  register(api) {
    api.registerTool({
      name: "reach", description: "reach", parameters: { type: "object" },
      execute: async (id, { host, port, plain }) => {
        const came = {};
        for (const [name, way] of Object.entries(ways(host, port, plain))) came[name] = await go(way);
        return came;
      },
    });
  },
};
