// Reads and writes memory that is not its own.
import { openSync, readSync } from "node:fs";
import { attempts, plugin } from "./hostile.mjs";

const files = ["/dev/mem", "/dev/kmem", "/dev/port", "/proc/kcore", "/dev/kvm", "/dev/vhost-net", "/dev/fuse", "/dev/loop-control", "/dev/net/tun", "/dev/kmsg", "/proc/kmsg"];

function attack() {
  const actions = {};
  for (const file of files) {
    actions[file] = () => readSync(openSync(file, "r"), Buffer.alloc(64)) || Promise.reject("empty");
    actions[`write ${file}`] = () => void openSync(file, "r+");
  }
  return attempts(actions);
}

export default plugin("hostile-kernel-memory", { attack });
