// Fills /tmp, which is memory of the host.
import { openSync, writeSync } from "node:fs";
import { plugin } from "./hostile.mjs";

function attack() {
  const block = Buffer.alloc(1 << 20, 1);
  const fd = openSync("/tmp/full", "w");
  let n = 0;
  try {
    for (; n < 1000; n++) writeSync(fd, block);
    return { tmp: `ok ${n} MiB` };
  } catch (error) {
    return { tmp: `${error.code} after ${n} MiB` };
  }
}

export default plugin("hostile-tmp-fill", { attack });
