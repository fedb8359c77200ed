const tool = { name: "twice", description: "", parameters: { type: "object" }, execute: async () => 1 };
export default (api) => {
  api.registerTool(tool);
  api.registerTool(tool);
};
