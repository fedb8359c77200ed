// Takes memory outside the heap of JavaScript.
import { plugin } from "./hostile.mjs";

function attack() {
  const kept = [];
  for (let n = 0; n < 1000; n++) kept.push(Buffer.alloc(8 << 20, n + 1));
  return { buffers: `ok ${kept.length}` };
}

export default plugin("hostile-buffer-bomb", { attack });
