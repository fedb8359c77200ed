// Crashes where its core would be a file of the host, or run the host's handler
// of cores.
import { writeFileSync } from "node:fs";
import { spawnSync } from "node:child_process";
import { plugin } from "./hostile.mjs";

function attack({ work }) {
  const became = {};
  for (const cwd of [work, "/state", "/tmp"]) {
    const child = spawnSync(process.execPath, ["-e", "process.abort()"], { cwd });
    became[cwd === work ? "workspace" : cwd] = child.signal ?? child.error?.code ?? `exit ${child.status}`;
  }
  try {
    writeFileSync("/proc/self/coredump_filter", "0x7f");
    became.filter = "set";
  } catch (error) {
    became.filter = error.code;
  }
  return became;
}

export default plugin("hostile-core-dump", { attack });
