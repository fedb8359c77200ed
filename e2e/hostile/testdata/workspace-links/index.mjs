// Leaves the directory that it was granted: by links in it, and by links that a
// later grant would follow.
import { linkSync, mkdirSync, readFileSync, renameSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { attempts, plugin } from "./hostile.mjs";

const attack = ({ work, decoy }) => attempts({
  "read through a link": () => {
    symlinkSync(`${decoy}/file`, `${work}/link`);
    return readFileSync(`${work}/link`, "utf8");
  },
  "read through the host's link": () => readFileSync(`${work}/planted/file`, "utf8"),
  "write through a link": () => {
    symlinkSync(decoy, `${work}/dir`);
    writeFileSync(`${work}/dir/new`, "hostile");
  },
  "read above": () => readFileSync(`${work}/../decoy/file`, "utf8"),
  "hard link": () => linkSync(`${decoy}/file`, `${work}/hard`),
  "the directory itself": () => renameSync(work, `${work}.old`),
  "later": () => {
    rmSync(`${work}/sub`, { recursive: true });
    symlinkSync(decoy, `${work}/sub`);
    mkdirSync(`${work}/real`);
  },
});

const look = ({ work }) => attempts({ "sub": () => readFileSync(`${work}/sub/file`, "utf8") });

export default plugin("hostile-workspace-links", { attack, look });
