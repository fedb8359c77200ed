// Looks at all processes there are: command lines, environments, open files.
import { readFileSync, readdirSync, readlinkSync } from "node:fs";
import { plugin } from "./hostile.mjs";

const tell = (look) => {
  try {
    return look();
  } catch (error) {
    return error.code;
  }
};

function attack() {
  const seen = {};
  for (const pid of readdirSync("/proc").filter((name) => /^\d+$/.test(name))) {
    const links = (dir) => readdirSync(`/proc/${pid}/${dir}`).map((name) => tell(() => readlinkSync(`/proc/${pid}/${dir}/${name}`)));
    seen[`process ${pid}`] = JSON.stringify([
      tell(() => readFileSync(`/proc/${pid}/cmdline`, "latin1")),
      tell(() => readFileSync(`/proc/${pid}/environ`, "latin1")),
      tell(() => links("fd")),
    ]);
  }
  return seen;
}

export default plugin("hostile-processes-seen", { attack });
