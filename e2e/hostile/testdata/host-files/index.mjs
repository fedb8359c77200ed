// Reads files of the host: by their paths, and by the ways around the root that
// /proc has.
import { readFileSync, readdirSync } from "node:fs";
import { attempts, plugin } from "./hostile.mjs";

const ways = ["", "/proc/1/root", "/proc/1/cwd", "/proc/self/root", "/proc/self/cwd", "/proc/thread-self/root", "/state/../..", "/plugin/../..", "/run/ocmt/../.."];

function attack({ files, dirs }) {
  const actions = {};
  for (const way of ways) {
    for (const file of files) actions[way + file] = () => readFileSync(way + file, "utf8");
    for (const dir of dirs) actions[way + dir] = () => readdirSync(way + dir);
  }
  for (const fd of readdirSync("/proc/1/fd")) {
    actions[`through descriptor ${fd}`] = () => readdirSync(`/proc/1/fd/${fd}/..`);
  }
  return attempts(actions);
}

export default plugin("hostile-host-files", { attack });
