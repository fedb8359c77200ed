// Ends soon after every start, once it was told to.
import { existsSync, writeFileSync } from "node:fs";

const flag = "/state/crash";
if (existsSync(flag)) setTimeout(() => process.exit(1), 50);

export const tools = [{
  name: "attack", description: "attack", parameters: { type: "object" },
  execute: async () => {
    writeFileSync(flag, "");
    setTimeout(() => process.exit(1), 50);
    return { crashing: "from now on" };
  },
}];
