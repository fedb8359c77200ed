// Fills the disk that its state is on: with blocks, with a hole that has a size,
// and with files that hold nothing.
import { closeSync, ftruncateSync, openSync, rmSync, writeFileSync, writeSync } from "node:fs";
import { plugin } from "./hostile.mjs";

function fill(limit, each) {
  let n = 0;
  try {
    for (; n < limit; n++) each(n);
    return `ok ${n}`;
  } catch (error) {
    return `${error.code} after ${n}`;
  }
}

function attack() {
  const block = Buffer.alloc(1 << 20, 1);
  const fd = openSync("/state/full", "w");
  const became = { blocks: fill(600, () => writeSync(fd, block)) };
  closeSync(fd);
  rmSync("/state/full");
  const hole = openSync("/state/hole", "w");
  became.hole = fill(1, () => ftruncateSync(hole, 2 ** 45));
  became.files = fill(100_000, (n) => writeFileSync(`/state/${n}`, ""));
  return became;
}

export default plugin("hostile-state-fill", { attack });
