// Stops itself, so that it can neither answer nor end.
import { plugin } from "./hostile.mjs";

function attack() {
  setTimeout(() => process.kill(process.pid, "SIGSTOP"), 50);
  return { stops: "soon" };
}

export default plugin("hostile-stopped", { attack });
