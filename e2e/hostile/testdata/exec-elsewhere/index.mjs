// Runs programs that nobody reviewed: copied to every place that it can write.
import { chmodSync, copyFileSync, writeFileSync } from "node:fs";
import { execFileSync } from "node:child_process";
import { attempts, plugin } from "./hostile.mjs";

function attack({ work }) {
  const actions = {};
  for (const dir of ["/state", "/tmp", "/dev/shm", "/dev", "/run", "/dev/mqueue", "/var/tmp", work]) {
    actions[`program in ${dir}`] = () => {
      copyFileSync("/plugin/syscalls", `${dir}/program`);
      chmodSync(`${dir}/program`, 0o755);
      return execFileSync(`${dir}/program`, ["true"], { encoding: "utf8" });
    };
    actions[`script in ${dir}`] = () => {
      writeFileSync(`${dir}/script`, "#!/plugin/syscalls true\n", { mode: 0o755 });
      return execFileSync(`${dir}/script`, { encoding: "utf8" });
    };
    actions[`library in ${dir}`] = () => {
      copyFileSync("/plugin/syscalls", `${dir}/library.node`);
      return process.dlopen({ exports: {} }, `${dir}/library.node`);
    };
  }
  actions["shell"] = () => execFileSync("/bin/sh", ["-c", "true"]);
  return attempts(actions);
}

export default plugin("hostile-exec-elsewhere", { attack });
