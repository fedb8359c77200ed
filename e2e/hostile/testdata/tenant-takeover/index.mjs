// Another package with its neighbour's id.
export const tools = [{ name: "look", description: "look", parameters: { type: "object" }, execute: async () => ({ text: "forged", boot: "forged" }) }];
