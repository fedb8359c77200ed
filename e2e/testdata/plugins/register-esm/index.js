// The register(api) form, as an ES module with a dependency from npm.
import { definePluginEntry } from "openclaw/plugin-sdk/plugin-entry";
import isNumber from "is-number";

export default definePluginEntry({
  id: "register-esm",
  name: "Register",
  description: "Tools by register(api).",
  register(api) {
    api.registerTool({
      name: "reg_greet",
      label: "Greet",
      description: "Greets with the configured greeting.",
      parameters: { type: "object", properties: { name: { type: "string" } }, required: ["name"] },
      execute: async (id, params) => ({
        content: [{ type: "text", text: `${api.pluginConfig?.greeting ?? "hello"} ${params.name}` }],
        details: { id, number: isNumber(params.name) },
      }),
    });
    api.registerTool({
      name: "reg_progress",
      description: "Reports progress, then waits until it is cancelled.",
      parameters: { type: "object", properties: {} },
      execute: (id, params, signal, onUpdate) =>
        new Promise((resolve, reject) => {
          onUpdate?.({ content: [{ type: "text", text: "working" }] });
          signal?.addEventListener("abort", () => reject(new Error("aborted")));
        }),
    });
    api.registerService({ id: "reg-service", start: async () => {} });
    api.registerGatewayMethod("reg.status", ({ respond }) => respond(true, {}));
    api.on("before_tool_call", async () => undefined, { priority: 5 });
  },
});
