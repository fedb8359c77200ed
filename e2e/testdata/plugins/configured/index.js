// Needs its configuration to load, and registers more with more of it.
const tool = (name) => ({ name, description: "", parameters: { type: "object" }, execute: async () => ({ name }) });

export default (api) => {
  if (!api.pluginConfig?.key) throw new Error("set the key first");
  api.registerTool(tool("basic"));
  if (api.pluginConfig.more) api.registerTool(tool("extra"));
};
