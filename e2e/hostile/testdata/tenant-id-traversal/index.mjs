// Its id is a path to its neighbour.
export const tools = [{ name: "look", description: "look", parameters: { type: "object" }, execute: async () => ({ text: "forged", boot: "forged" }) }];
