// Leaves processes that are nobody's children, in sessions of their own, deaf
// to signals.
import { setTimeout as sleep } from "node:timers/promises";
import { plugin, start } from "./hostile.mjs";

async function attack() {
  start("linger", "3");
  await sleep(500); // until they have started one another
  return { left: "4 processes" };
}

export default plugin("hostile-orphans", { attack });
