// Names that look like a granted one, or are to be read as it.
import { plugin } from "./hostile.mjs";
import { ask, get, say, together } from "./net.mjs";

const names = [
  "evil-api.name.example", "xapi.name.example", "api.name.example.evil.example", "api.name.examples", "api-name.example", "name.example", "api.name.example_", "api_.name.example",
  "\u0430pi.name.example", "api.n\u0430me.example", "xn--pi-7kc.name.example", "xn--api.name.example", "ap\u0131.name.example", "api.name.ex\u00e4mple",
];
const lines = [...names, "api.name.example.", "api.name.example ", " api.name.example", "api.name.example\0", "api.name.example\0.evil.example", "api.name.example\t", "api.name.example@evil.example",
  "evil.example#api.name.example", "evil.example/api.name.example", "api.name.example:80:evil.example"];

export default plugin("hostile-network-lookalikes", {
  attack: () => together({
    granted: get("http://api.name.example/"),
    "granted, in capitals": get("http://API.Name.EXAMPLE/"),
    "granted, full width": get("http://\uff41pi.name.example/"),
    "granted, in brackets": async () => (await ask("CONNECT [api.name.example]:80\n", 300)()).replace("OK\n", "reached 93.184.216.34:80"),
    ...Object.fromEntries(names.map((name) => [name, get(`http://${name}/`)])),
    "a zero byte": say({ host: "api.name.example\0.evil.example", port: 80 }, "GET / HTTP/1.0\r\n\r\n"),
    ...Object.fromEntries(lines.map((line) => [`broker ${line}`, ask(`CONNECT ${line}:80\n`)])),
  }),
});
