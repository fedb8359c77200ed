// More and fewer labels than the one that a wildcard stands for.
import { plugin } from "./hostile.mjs";
import { ask, get, together } from "./net.mjs";

const names = ["a.b.wild.example", "wild.example", "a.wild.example.evil.example", "awild.example", "a.wild.example.com", "a..wild.example"];

export default plugin("hostile-network-wildcard", {
  attack: () => together({
    granted: get("http://a.wild.example/"),
    ...Object.fromEntries(names.map((name) => [name, get(`http://${name}/`)])),
    ...Object.fromEntries([...names, ".wild.example", "*.wild.example", "%2a.wild.example"].map((name) => [`broker ${name}`, ask(`CONNECT ${name}:80\n`)])),
  }),
});
