"use strict";
// A CommonJS entry in a package of ES modules: results, errors, schemas.
Object.defineProperty(exports, "__esModule", { value: true });

class Point {
  constructor() {
    this.x = 1;
  }
  get y() {
    return 2;
  }
}
const circle = {};
circle.self = circle;

const RESULTS = {
  undefined: () => undefined,
  null: () => null,
  number: () => 42,
  text: () => "text",
  buffer: () => Buffer.from("ab"),
  map: () => new Map([["a", 1]]),
  instance: () => new Point(),
  date: () => new Date(0),
  thenable: () => ({ then: (done) => done("later") }),
  image: () => ({ content: [{ type: "image", data: "aGk=", mimeType: "image/png" }] }),
  printing: () => {
    for (let i = 0; i < 20_000; i++) console.log("a line of the plugin's own", i);
    return "printed";
  },
  large: () => "x".repeat(3_000_000),
  "too large": () => "x".repeat(5_000_000),
  circle: () => circle,
  bigint: () => ({ n: 1n }),
};

const THROWN = {
  error: () => new RangeError("too far"),
  text: () => "only text",
  undefined: () => undefined,
  bare: () => Object.create(null),
  caused: () => new Error("outer", { cause: new Error("inner") }),
};

const SCHEMAS = {
  "look-ahead": { type: "object", properties: { a: { type: "string", pattern: "^(?=.*\\d).+$" } } },
  refs: { type: "object", $defs: { s: { type: "string" } }, properties: { a: { $ref: "#/$defs/s" } }, required: ["a"] },
  "draft-07": { $schema: "http://json-schema.org/draft-07/schema#", type: "object", definitions: { s: { type: "string" } }, properties: { a: { $ref: "#/definitions/s" } } },
  symbols: { type: "object", properties: { a: { type: "string", [Symbol.for("TypeBox.Kind")]: "String" } }, [Symbol.for("TypeBox.Kind")]: "Object" },
  library: { _def: { typeName: "ZodObject" }, parse: () => ({}) },
  undefined,
  old: { type: "object", properties: { a: { type: "string", required: true } } },
};

exports.default = {
  register(api) {
    const parameters = { type: "object", properties: { kind: { type: "string" } } };
    api.registerTool({ name: "result", description: "returns", parameters, execute: async (_, { kind }) => RESULTS[kind]() });
    api.registerTool({ name: "fail", description: "throws", parameters, execute: async (_, { kind }) => { throw THROWN[kind](); } });
    for (const [kind, schema] of Object.entries(SCHEMAS)) {
      api.registerTool({ name: `schema-${kind}`, description: kind, parameters: schema, execute: async (_, params) => params });
    }
    api.registerTool(() => [{ name: "made", description: "by a factory", execute: async () => "made" }, null], { names: ["made"], optional: true });
  },
};
