// Fills the heap of JavaScript.
import { plugin } from "./hostile.mjs";

function attack() {
  const kept = [];
  for (let n = 0; n < 1e7; n++) kept.push(Array.from({ length: 4096 }, () => n + 0.5));
  return { heap: `ok ${kept.length}` };
}

export default plugin("hostile-heap-bomb", { attack });
