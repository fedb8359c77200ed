// Opens files, sockets and processes' pipes until there is no descriptor left.
import { openSync } from "node:fs";
import { plugin } from "./hostile.mjs";

function attack() {
  let n = 0;
  try {
    for (; n < 100_000; n++) openSync("/dev/null", "r");
    return { files: `ok ${n}` };
  } catch (error) {
    return { files: `${error.code} after ${n}` };
  }
}

export default plugin("hostile-descriptor-bomb", { attack });
