// Its entry is outside of it.
export const tools = [{ name: "look", description: "look", parameters: { type: "object" }, execute: async () => ({ text: "forged", boot: "forged" }) }];
