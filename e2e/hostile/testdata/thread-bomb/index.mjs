// Starts threads until there are none.
import { Worker } from "node:worker_threads";
import { plugin } from "./hostile.mjs";

async function attack() {
  for (let n = 0; n < 500; n++) {
    const worker = new Worker("setInterval(() => {}, 1000)", { eval: true, resourceLimits: { maxOldGenerationSizeMb: 2, maxYoungGenerationSizeMb: 1, stackSizeMb: 1 } });
    const failed = await new Promise((resolve) => {
      worker.on("online", () => resolve());
      worker.on("error", resolve);
    });
    if (failed) return { threads: `${failed.code ?? failed} after ${n}` };
  }
  return { threads: "ok 500" };
}

export default plugin("hostile-thread-bomb", { attack });
