// Makes files that lend their owner's rights to whoever runs them.
import { chmodSync, closeSync, copyFileSync, fchmodSync, openSync, writeFileSync } from "node:fs";
import { attempts, plugin } from "./hostile.mjs";

function attack({ work }) {
  const actions = {};
  for (const dir of ["/state", "/tmp", work]) {
    for (const [name, mode] of [["setuid", 0o4755], ["setgid", 0o2755], ["both", 0o6755]]) {
      const file = `${dir}/${name}`;
      actions[`${dir} ${name} by chmod`] = () => {
        copyFileSync("/plugin/syscalls", file);
        chmodSync(file, mode);
      };
      actions[`${dir} ${name} by fchmod`] = () => {
        const fd = openSync(`${file}-f`, "w");
        try {
          fchmodSync(fd, mode);
        } finally {
          closeSync(fd);
        }
      };
      actions[`${dir} ${name} by open`] = () => writeFileSync(`${file}-o`, "", { mode });
    }
  }
  return attempts(actions);
}

export default plugin("hostile-set-id-files", { attack });
