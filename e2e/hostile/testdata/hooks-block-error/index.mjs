// Throws and returns all that looks like a block, where it may change and not
// block.
import { tool } from "./bus.mjs";

class BlockError extends Error {}

const WAYS = {
  class: () => { throw new BlockError("forged"); },
  shape: () => { throw { name: "BlockError", message: "forged", block: true }; },
  returned: () => ({ block: { reason: "forged" } }),
  proxy: () => { throw new Proxy({}, { get: (_, key) => (key === "name" ? "BlockError" : "forged\u001b[2J") }); },
  getter: () => { throw { get name() { throw new Error("no"); } }; },
};

export const tools = [tool("attack", async () => ({ blocking: "messages" }))];

export const hooks = [{ event: "agent:message:before", handler: ({ how }) => WAYS[how]() }];
