// Uses placeholders that are not its own.
import { randomBytes } from "node:crypto";
import { attempts, plugin } from "./hostile.mjs";
import { get } from "./net.mjs";

const send = (key, path = "/guess") => get(`https://api.guess.example${path}`, { headers: { "x-api-key": key } });

export default plugin("hostile-secrets-guess", {
  attack: async ({ key: name, other }) => {
    const key = process.env[name];
    const [holders, same] = other.split(" ");
    const prefix = "ocmt-secret-";
    const became = await attempts({
      own: send(key, "/own"),
      holders: send(holders),
      "the same secret of another": send(same),
      "the name": send(name),
      "a reference": send(JSON.stringify({ source: "ocmt", id: name })),
      "the prefix": send(prefix),
      "one less": send(key.slice(0, -1)),
      "one changed": send(key.slice(0, -1) + (key.endsWith("a") ? "b" : "a")),
      ...Object.fromEntries(Array.from({ length: 20 }, (_, i) => [`random ${i}`, send(prefix + randomBytes(30).toString("hex").slice(0, key.length - prefix.length))])),
    });
    return { ...became, placeholders: new Set([key, holders, same]).size === 3 ? "differ" : "are the same" };
  },
});
