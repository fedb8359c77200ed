// Never gets ready once it is configured to hang.
export default (api) => {
  api.registerTool({ name: "noop", description: "", parameters: { type: "object" }, execute: async () => ({}) });
  while (api.pluginConfig?.hang);
};
