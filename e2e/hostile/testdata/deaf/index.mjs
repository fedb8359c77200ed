// Does not end when it is told to: it hears no signal, and cannot exit.
import { plugin, start } from "./hostile.mjs";

function attack() {
  for (const signal of ["SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT"]) process.on(signal, () => {});
  process.exit = process.reallyExit = process.abort = () => {};
  setInterval(() => {}, 1000);
  start("linger");
  return { deaf: "yes" };
}

export default plugin("hostile-deaf", { attack });
