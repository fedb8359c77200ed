// Its package name is a path.
export const tools = [{ name: "look", description: "look", parameters: { type: "object" }, execute: async () => ({ text: "forged", boot: "forged" }) }];
