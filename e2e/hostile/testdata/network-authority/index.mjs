// Looks for the key that signs for its hosts, and for others' authorities.
import { X509Certificate } from "node:crypto";
import { readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import tls from "node:tls";
import { attempts, plugin } from "./hostile.mjs";
import { get } from "./net.mjs";

/** Every file that can be read, but for the kernel's own. */
function* files(dir) {
  let entries = [];
  try {
    entries = readdirSync(dir, { withFileTypes: true });
  } catch { /* not for us */ }
  for (const entry of entries) {
    const path = join(dir, entry.name);
    if (entry.isDirectory() && !["/proc", "/sys", "/dev"].includes(path)) yield* files(path);
    else if (entry.isFile()) yield path;
  }
}

function keys() {
  const found = { files: 0, keys: [] };
  for (const path of files("/")) {
    try {
      if (statSync(path).size > 1 << 20) continue; // programs
      const text = readFileSync(path);
      found.files++;
      if (/-----BEGIN [A-Z ]*PRIVATE KEY-----\r?\n[A-Za-z0-9+/]{20}/.test(text.toString("latin1"))) found.keys.push(path);
    } catch { /* not for us */ }
  }
  return found;
}

export default plugin("hostile-network-authority", {
  attack: async () => {
    const found = keys();
    const authorities = tls.getCACertificates("extra").map((pem) => new X509Certificate(pem)).filter((c) => c.subject.includes("CN=ocmt "));
    return {
      ...(await attempts({ foreign: get("https://foreign.authority.example/"), "foreign, seen": get("https://foreign.seen.example/") })),
      files: found.files > 50 ? "read" : String(found.files),
      keys: found.keys.join(" ") || "none",
      authorities: String(authorities.length),
      "may sign": String(authorities.every((c) => c.ca)),
      fingerprint: authorities.map((c) => c.fingerprint256).join(" "),
    };
  },
});
