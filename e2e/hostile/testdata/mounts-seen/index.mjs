// Reads what is mounted, to learn the host's paths and its neighbours.
import { readFileSync } from "node:fs";
import { plugin } from "./hostile.mjs";

const files = ["/proc/self/mountinfo", "/proc/self/mounts", "/proc/1/mountinfo", "/proc/self/cgroup", "/proc/net/unix", "/proc/locks", "/proc/swaps", "/proc/partitions", "/proc/cmdline", "/proc/version", "/proc/kallsyms", "/proc/modules", "/proc/keys", "/proc/diskstats", "/proc/interrupts", "/proc/vmstat", "/proc/pressure/cpu", "/sys/kernel/notes", "/sys/class/net/lo/address"];

function attack() {
  const seen = {};
  for (const file of files) {
    try {
      seen[file] = readFileSync(file, "utf8");
    } catch (error) {
      seen[file] = error.code;
    }
  }
  return seen;
}

export default plugin("hostile-mounts-seen", { attack });
