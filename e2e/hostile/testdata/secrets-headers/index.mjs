// Writes the key's header in ways that two readers take differently.
import { plugin } from "./hostile.mjs";
import { statuses, together } from "./net.mjs";

const host = "strict.headers.example";

export default plugin("hostile-secrets-headers", {
  attack: ({ key: name }) => {
    const key = process.env[name];
    const send = (...headers) => statuses({ host }, ["GET / HTTP/1.1", `Host: ${host}`, ...headers, "Content-Length: 0", "", ""].join("\r\n"), 700);
    return together({
      granted: send(`X-Api-Key: ${key}`),
      "lower case": send(`x-api-key: ${key}`),
      twice: send(`X-Api-Key: ${key}`, `X-Api-Key: ${key}`),
      folded: send("X-Other: a", ` X-Api-Key: ${key}`),
      "folded after": send("X-Api-Key: a", ` ${key}`),
      "a space before the colon": send(`X-Api-Key : ${key}`),
      "an underscore": send(`X_Api_Key: ${key}`),
      "a bare line feed": send(`X-Api-Key: ${key}\nX-Other: ${key}`),
      "a bare carriage return": send(`X-Api-Key: a\rX-Other: ${key}`),
      "a zero byte": send(`X-Api-Key: ${key}\0`),
      "hop by hop": send("Connection: X-Api-Key", `X-Api-Key: ${key}`),
      "in Connection": send(`Connection: ${key}`),
      "no colon": send(`X-Api-Key ${key}`),
      "a trailer": statuses({ host }, `POST / HTTP/1.1\r\nHost: ${host}\r\nTrailer: X-Api-Key\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-Api-Key: ${key}\r\n\r\n`, 700),
    });
  },
});
