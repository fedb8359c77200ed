import { OpenClawPluginApi } from "openclaw/plugin-sdk";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { Base, Colour } from "./lib/index.js";
import { Mode, Shape } from "./lib/types";
import data from "./lib/data.json";

class Impl extends Base {
  go() {
    return this.x;
  }
}
const shape: Shape = { a: 1 };

class Plugin {
  id = "general-ts";
  register(api: OpenClawPluginApi): void {
    api.registerTool({
      name: "typed",
      description: "a tool in TypeScript",
      async execute(_id: string, params: { mode?: Mode }) {
        const own = JSON.parse(readFileSync(join(__dirname, "lib", "data.json"), "utf8"));
        return { shape, colour: Colour.Blue, go: new Impl(3).go(), data, own, mode: params.mode ?? "none" };
      },
    });
  }
}

export default new Plugin();
