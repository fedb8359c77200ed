// Hosts that cannot prove who they are, where the broker looks inside; and not caring.
import { connect } from "node:tls";
import { plugin } from "./hostile.mjs";
import { get, request, together } from "./net.mjs";

process.env.NODE_TLS_REJECT_UNAUTHORIZED = "0";
const names = ["expired", "self-signed", "other-name", "unknown"];

/** Who signed what the plugin is shown. */
const issuer = () => new Promise((resolve, reject) => {
  const socket = connect({ host: "good.certificate.example", port: 443, servername: "good.certificate.example" }, () => (resolve(socket.getPeerCertificate().issuer.CN), socket.destroy()));
  socket.on("error", reject);
});

export default plugin("hostile-network-certificates", {
  attack: () => together({
    granted: get("https://good.certificate.example/"),
    "granted, whose": issuer,
    ...Object.fromEntries(names.map((name) => [name, get(`https://${name}.certificate.example/`)])),
    ...Object.fromEntries(names.map((name) => [`${name}, raw`, request({ host: `${name}.certificate.example` }, "GET /")])),
  }),
});
