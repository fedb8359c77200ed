// Never gives the event loop back.
export const tools = [{ name: "attack", description: "attack", parameters: { type: "object" }, execute: async () => { for (;;); } }];
