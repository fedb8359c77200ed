// Prints 32 MiB past the runner, on both streams.
import { writeSync } from "node:fs";
import { plugin } from "./hostile.mjs";

function attack() {
  const line = Buffer.from("hostile ".repeat(128) + "\n");
  const lines = Buffer.concat(Array(64).fill(line));
  let bytes = 0;
  const until = Date.now() + 8000;
  while (bytes < 32 << 20 && Date.now() < until) {
    for (const fd of [1, 2]) {
      try {
        bytes += writeSync(fd, lines);
      } catch (error) {
        if (error.code !== "EAGAIN") return { printed: error.code };
      }
    }
  }
  return { printed: `${bytes >> 20} MiB` };
}

export default plugin("hostile-log-flood", { attack });
