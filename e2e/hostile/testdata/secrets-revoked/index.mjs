// Remembers its placeholder.
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { attempts, plugin } from "./hostile.mjs";
import { get } from "./net.mjs";

const send = (key, path) => get(`https://api.revoked.example${path}`, { headers: { "x-api-key": key } });

export default plugin("hostile-secrets-revoked", {
  attack: ({ key }) => {
    writeFileSync("/state/key", `${key} ${process.env[key]}`);
    return attempts({ first: send(process.env[key], "/first") });
  },
  after: async () => {
    const [name, key] = existsSync("/state/key") ? readFileSync("/state/key", "utf8").split(" ") : [];
    return { ...(await attempts({ again: send(key, "/again") })), held: String(process.env[name]) };
  },
});
