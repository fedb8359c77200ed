// Ends in the middle of its calls.
export const tools = [
  { name: "attack", description: "attack", parameters: { type: "object" }, execute: () => new Promise(() => setTimeout(() => process.exit(0), 50)) },
  { name: "echo", description: "echo", parameters: { type: "object" }, execute: async (params) => params },
];
