export const tools = [{ name: "a b", description: "", parameters: { type: "object" }, execute: async () => 1 }];
