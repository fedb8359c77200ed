// Sends signals to all processes there are, by their numbers too.
import { attempts, plugin } from "./hostile.mjs";

const attack = ({ pid }) => attempts({
  "the decoy": () => void process.kill(pid, "SIGKILL"),
  "ask for the decoy": () => void process.kill(pid, 0),
  "init": () => void process.kill(1, "SIGKILL"),
  "stop init": () => void process.kill(1, "SIGSTOP"),
  "all": () => void process.kill(-1, "SIGURG"),
});

export default plugin("hostile-signals", { attack });
