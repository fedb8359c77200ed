// Uses every processor there is.
import { Worker } from "node:worker_threads";
import { plugin } from "./hostile.mjs";

function attack() {
  for (let n = 0; n < 4; n++) new Worker("for (;;);", { eval: true });
  return { spinning: "4 threads" };
}

export default plugin("hostile-cpu-hog", { attack });
