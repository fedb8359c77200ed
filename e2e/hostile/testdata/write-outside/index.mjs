// Writes wherever a program or a configuration would be taken from.
import { readdirSync, writeFileSync } from "node:fs";
import { attempts, plugin } from "./hostile.mjs";

const places = ["/", "/plugin", "/ocmt", "/etc", "/usr/bin", "/usr/local/bin", "/dev", "/proc", "/sys", "/sys/fs/cgroup"];
const files = [
  "/etc/passwd", "/etc/hosts", "/etc/resolv.conf", "/ocmt/init", "/ocmt/runner.js", "/plugin/index.mjs", "/plugin/package.json",
  "/proc/sys/kernel/core_pattern", "/proc/sys/kernel/hostname", "/proc/sys/vm/drop_caches", "/proc/sysrq-trigger",
  "/sys/kernel/uevent_helper", "/sys/power/state", "/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/cgroup.procs",
];

function attack() {
  const actions = {};
  for (const dir of places) actions[`new in ${dir}`] = () => writeFileSync(`${dir}/hostile`, "was here");
  for (const file of files) actions[file] = () => writeFileSync(file, "1\n", { flag: "r+" });
  for (const group of readdirSync("/sys/fs/cgroup")) {
    actions[`cgroup ${group}`] = () => writeFileSync(`/sys/fs/cgroup/${group}/release_agent`, "/tmp/x", { flag: "r+" });
  }
  return attempts(actions);
}

export default plugin("hostile-write-outside", { attack });
