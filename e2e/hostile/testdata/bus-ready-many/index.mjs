// Reports more registrations than a plugin may have.
import { Bus } from "./bus.mjs";

const bus = await Bus.open();
await bus.ask("ready", {
  type: "ready", diagnostics: [],
  registrations: Array.from({ length: 1025 }, (_, i) => ({ kind: "tool", name: `t${i}`, entry: 0, form: "register", spec: { parameters: {} } })),
});

export const tools = [];
