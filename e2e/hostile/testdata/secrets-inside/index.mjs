// Looks for the value of its secret, which it is told backwards, in all that it can read.
import { readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { attempts, plugin } from "./hostile.mjs";

function* files(dir, depth = 0) {
  let entries = [];
  try {
    entries = readdirSync(dir, { withFileTypes: true });
  } catch { /* not for us */ }
  for (const entry of entries) {
    const path = join(dir, entry.name);
    if (entry.isDirectory() && !["/proc", "/sys", "/dev"].includes(path) && depth < 12) yield* files(path, depth + 1);
    else if (entry.isFile()) yield path;
  }
}

function* processes() {
  for (const pid of readdirSync("/proc").filter((name) => /^\d+$/.test(name))) for (const what of ["environ", "cmdline", "status", "maps", "mountinfo"]) yield `/proc/${pid}/${what}`;
}

export default plugin("hostile-secrets-inside", {
  attack: async ({ key, backwards }, api) => {
    const is = (text) => [...text].reverse().join("").includes(backwards);
    const found = [];
    for (const place of [...files("/"), ...processes()]) {
      try {
        if (statSync(place).size <= 1 << 20 && is(readFileSync(place, "latin1"))) found.push(place);
      } catch { /* not for us */ }
    }
    for (const [place, value] of Object.entries({ env: process.env, argv: process.argv, config: api.config, own: api.pluginConfig, report: process.report.getReport() }))
      if (is(JSON.stringify(value ?? null))) found.push(place);
    return {
      found: found.join(" ") || "nothing",
      ...(await attempts({ held: () => process.env[key], "init's memory": () => readFileSync("/proc/1/mem").length })),
    };
  },
});
