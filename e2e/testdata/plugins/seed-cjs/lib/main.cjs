// The document's form, as CommonJS.
exports.tools = [
  {
    name: "cjs_add",
    description: "Adds two numbers.",
    parameters: {
      type: "object",
      properties: { a: { type: "number" }, b: { type: "number" } },
      required: ["a", "b"],
    },
    execute: async ({ a, b }) => ({ sum: a + b }),
  },
];
