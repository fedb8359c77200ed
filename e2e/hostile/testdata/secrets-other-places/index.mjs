// Sends its placeholder to the right host, in all places but the right one.
import https from "node:https";
import { connect } from "node:tls";
import { attempts, plugin } from "./hostile.mjs";
import { Failure, get, request } from "./net.mjs";

const host = "api.places.example";
const url = `https://${host}`;

/** A request with a trailer. */
const trailing = (key) => () => new Promise((resolve, reject) => {
  const sent = https.request(`${url}/`, { method: "POST", headers: { "transfer-encoding": "chunked", trailer: "X-Api-Key, X-Last" } }, (answer) => {
    answer.resume();
    answer.on("end", () => resolve(String(answer.statusCode)));
  });
  sent.on("error", reject);
  sent.write("body");
  sent.addTrailers({ "X-Api-Key": key, "X-Last": key });
  sent.end();
});

/** What comes back of a WebSocket frame that holds the key. */
const framed = (key) => () => new Promise((resolve, reject) => {
  let heard = "";
  const head = ["GET /socket HTTP/1.1", `Host: ${host}`, "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="];
  const socket = connect({ host, port: 443, servername: host, ALPNProtocols: ["http/1.1"] }, () => socket.write(`${head.join("\r\n")}\r\n\r\n`));
  socket.setEncoding("latin1");
  socket.on("data", (text) => {
    heard += text;
    if (heard.endsWith("\r\n\r\n")) socket.write(`X-Api-Key: ${key}`);
    else if (heard.endsWith(key)) (resolve("the same"), socket.destroy());
  });
  socket.on("error", reject);
  socket.on("close", () => reject(new Failure(`closed after ${heard.slice(-200)}`)));
});

export default plugin("hostile-secrets-other-places", {
  attack: ({ key: name }) => {
    const key = process.env[name];
    return attempts({
      "another header": get(`${url}/`, { headers: { "x-other": key, authorization: `Bearer ${key}`, cookie: `key=${key}`, "x-api-key2": key, "x_api_key": key, referer: `${url}/${key}` } }),
      "a header's name": get(`${url}/`, { headers: { [key]: "x-api-key" } }),
      query: get(`${url}/?x-api-key=${key}&X-Api-Key=${key}&${key}=1`),
      path: get(`${url}/X-Api-Key/${key}`),
      body: get(`${url}/`, { method: "POST", body: `X-Api-Key: ${key}` }),
      form: get(`${url}/`, { method: "POST", body: new URLSearchParams({ "x-api-key": key }) }),
      parts: get(`${url}/`, { method: "POST", body: Object.entries({ "x-api-key": key }).reduce((form, [name, value]) => (form.append(name, value), form), new FormData()) }),
      method: request({ host }, `${key.toUpperCase()} /`),
      "a trailer": trailing(key),
      "a WebSocket": framed(key),
      "in two": get(`${url}/`, { headers: { "x-api-key": `${key.slice(0, 30)} ${key.slice(30)}` } }),
      "in capitals": get(`${url}/`, { headers: { "x-api-key": key.toUpperCase() } }),
      encoded: get(`${url}/`, { headers: { "x-api-key": Buffer.from(key).toString("base64") } }),
    });
  },
});
