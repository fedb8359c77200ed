// The neighbour of every attacker: it keeps a text in its state, and knows
// which process it is.
import { readFileSync, writeFileSync } from "node:fs";
import { randomUUID } from "node:crypto";
import { join } from "node:path";
import { plugin } from "./hostile.mjs";

const boot = randomUUID();
const file = (api) => join(api.runtime.state.resolveStateDir(), "kept");

export default plugin("victim", {
  keep: ({ text }, api) => (writeFileSync(file(api), text), {}),
  look: (_, api) => ({ text: readFileSync(file(api), "utf8"), boot }),
});
