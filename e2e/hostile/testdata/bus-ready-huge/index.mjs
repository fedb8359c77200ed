// Reports one registration with as much text as fits a message, and schemas
// that take long to compile.
import { Bus } from "./bus.mjs";

const bus = await Bus.open();
await bus.ask("ready", {
  type: "ready", diagnostics: [],
  registrations: [{ kind: "tool", name: "attack", entry: 0, form: "register", spec: { description: "x".repeat(2_000_000), parameters: {} } }],
});

export const tools = [];
