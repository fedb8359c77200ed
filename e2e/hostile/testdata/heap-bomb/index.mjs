// Fills the heap of JavaScript.
import { plugin } from "./hostile.mjs";

function attack() {
  const kept = [];
  for (let n = 0; n < 1e5; n++) kept.push(new Array(1 << 16).fill(n + 0.5));
  return { heap: `ok ${kept.length}` };
}

export default plugin("hostile-heap-bomb", { attack });
