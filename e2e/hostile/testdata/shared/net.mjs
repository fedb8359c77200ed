// What attackers on the network share.
import dgram from "node:dgram";
import { connect } from "node:net";
import { dirname } from "node:path";
import { connect as connectTLS } from "node:tls";
import { attempt } from "./hostile.mjs";

/** The broker's socket. */
export const broker = `${dirname(process.env.OCMT_BUS)}/egress.sock`;

/** What an attempt fails with. */
export class Failure extends Error {
  constructor(code) {
    super(code);
    this.code = code;
  }
}

/** What became of each of some attempts, made at the same time. */
export const together = async (actions) =>
  Object.fromEntries(await Promise.all(Object.entries(actions).map(async ([name, action]) => [name, await attempt(action)])));

/** The status and text that a URL has; from 400 on a status is a failure. */
export const get = (url, options = {}) => async () => {
  const response = await fetch(url, { signal: AbortSignal.timeout(8000), ...options });
  const text = (await response.text()).slice(0, 300);
  if (response.status >= 400) throw new Failure(`${response.status} ${text}`);
  return text;
};

/** Sends bytes and returns what comes back until the end, or until nothing more comes for so long. */
export const say = (to, bytes, ms = 4000) => () => new Promise((resolve, reject) => {
  let heard = "";
  const socket = to.servername === undefined ? connect(to) : connectTLS({ rejectUnauthorized: false, ...to });
  const quiet = () => (heard ? resolve(heard) : reject(new Failure("silent")), socket.destroy());
  let timer = setTimeout(quiet, Math.max(ms, 8000));
  socket.on(to.servername === undefined ? "connect" : "secureConnect", () => socket.write(bytes));
  socket.setEncoding("latin1");
  socket.on("data", (text) => {
    heard += text;
    clearTimeout(timer);
    timer = setTimeout(quiet, ms);
  });
  socket.on("error", (error) => (clearTimeout(timer), heard ? resolve(heard) : reject(error)));
  socket.on("close", () => (clearTimeout(timer), heard ? resolve(heard) : reject(new Failure("closed"))));
});

/** Says a line to the broker; a refusal is a failure with its code. */
export const ask = (line, ms = 2000) => async () => {
  const answer = await say({ path: broker }, line, ms)();
  if (answer.startsWith("DENIED ")) throw new Failure(answer.split(" ")[1]);
  return answer.slice(0, 300);
};

/** The statuses of the answers to what is said over TLS, a failure unless one is 200. */
export const statuses = (to, text, ms = 1500) => async () => {
  const answer = await say({ port: 443, servername: to.host, ALPNProtocols: ["http/1.1"], ...to }, Buffer.from(text, "latin1"), ms)();
  const found = [...answer.matchAll(/^HTTP\/1\.\d (\d+)/gm)].map(([, status]) => status).join(",") || "none";
  if (!found.includes("200")) throw new Failure(found);
  return found;
};

/** The same for one request, which the server closes after. */
export const request = (to, line, headers = [], body = "") =>
  statuses(to, [`${line} HTTP/1.1`, `Host: ${to.host}`, "Connection: close", ...headers, "", body].join("\r\n"));

/** A DNS query. */
export function query(name, type, cls = 1) {
  const labels = name.split(".").filter(Boolean).map((label) => Buffer.concat([Buffer.from([label.length]), Buffer.from(label, "latin1")]));
  const tail = Buffer.from([0, type >> 8, type & 255, cls >> 8, cls & 255]);
  return Buffer.concat([Buffer.from([0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0]), ...labels, tail]);
}

/** Sends a datagram and returns what comes back. */
export const datagram = (bytes, port = 53, host = "127.0.0.1", ms = 700) => () => new Promise((resolve, reject) => {
  const socket = dgram.createSocket(host.includes(":") ? "udp6" : "udp4");
  const end = (finish, value) => (clearTimeout(timer), finish(value), socket.close());
  const timer = setTimeout(() => end(reject, new Failure("silent")), ms);
  socket.on("message", (answer) => end(resolve, answer));
  socket.on("error", (error) => end(reject, error));
  socket.connect(port, host, (error) => (error ? end(reject, error) : socket.send(bytes)));
});

/** What the DNS of the container answers: the code if it is none, else how many answers. */
export const lookup = (name, type, cls) => queried(query(name, type, cls));
export const queried = (bytes) => async () => {
  const answer = await datagram(bytes)();
  const code = answer[3] & 15;
  if (code) throw new Failure(`rcode ${code}`);
  const answers = answer.readUInt16BE(6);
  if (!answers) throw new Failure("no answers");
  return `${answers} answers`;
};
