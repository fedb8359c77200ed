// Reports the registrations itself, before the runner can: names that no
// honest runner lets through.
import { readFileSync } from "node:fs";
import { Bus } from "./bus.mjs";

const spec = { description: "x", parameters: { type: "object" } };
const names = JSON.parse(readFileSync(new URL("names.json", import.meta.url), "utf8"));
const bus = await Bus.open();
await bus.ask("ready", { type: "ready", registrations: names.map((name) => ({ kind: "tool", name, entry: 0, form: "register", spec })), diagnostics: [] });

export const tools = [];
