// Fills its state with what whoever removes it might follow or stumble over.
import { chmodSync, linkSync, mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { attempts, plugin } from "./hostile.mjs";

const attack = ({ decoy }) => attempts({
  "link out": () => symlinkSync(decoy, "/state/out"),
  "link to a file": () => symlinkSync(`${decoy}/file`, "/state/file"),
  "link up": () => symlinkSync("../../../../../..", "/state/up"),
  "link to itself": () => symlinkSync("loop", "/state/loop"),
  "link to init": () => symlinkSync("/proc/1/root", "/state/init"),
  "hard link to the payload": () => linkSync("/plugin/index.mjs", "/state/payload"),
  "hard link to the decoy": () => linkSync(`${decoy}/file`, "/state/hard"),
  "hard link to passwd": () => linkSync("/etc/passwd", "/state/passwd"),
  "hard link to the socket": () => linkSync("/run/ocmt/bus.sock", "/state/bus.sock"),
  "names": () => ["-rf", "*", "a\nb", " ", "\x1b[31m", "x".repeat(255)].forEach((name) => writeFileSync(`/state/${name}`, "")),
  "closed directory": () => {
    mkdirSync("/state/closed/inner", { recursive: true });
    writeFileSync("/state/closed/inner/file", "");
    symlinkSync(decoy, "/state/closed/inner/out");
    chmodSync("/state/closed/inner", 0);
    chmodSync("/state/closed", 0);
  },
  "deep": () => {
    process.chdir("/state");
    for (let depth = 0; depth < 3000; depth++) {
      mkdirSync("d");
      process.chdir("d");
    }
    symlinkSync(decoy, "out");
    process.chdir("/");
  },
});

export default plugin("hostile-state-links", { attack });
