// Writes to its state while that is removed.
import { Worker } from "node:worker_threads";
import { plugin } from "./hostile.mjs";

const writer = `
const { mkdirSync, writeFileSync } = require("node:fs");
for (let n = 0; ; n++) {
  try {
    mkdirSync("/state/" + n % 50, { recursive: true });
    writeFileSync("/state/" + n % 50 + "/" + n % 20, "x");
  } catch {}
}`;

function attack() {
  for (let n = 0; n < 2; n++) new Worker(writer, { eval: true });
  return { writing: "yes" };
}

export default plugin("hostile-busy-uninstall", { attack });
