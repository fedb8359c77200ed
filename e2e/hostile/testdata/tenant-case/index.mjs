// Its id is its neighbour's in capitals.
export const tools = [{ name: "attack", description: "attack", parameters: { type: "object" }, execute: async () => ({ as: "VICTIM" }) }, { name: "look", description: "look", parameters: { type: "object" }, execute: async () => ({ text: "forged", boot: "forged" }) }];
