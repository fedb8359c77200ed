// Reports the registrations itself, before the runner can: names that no
// honest runner lets through.
import { Bus } from "./bus.mjs";

const spec = { description: "x", parameters: { type: "object" } };
const names = ["", "a.b", "a*", ">", "a b", "a\u0000b", "a\nb", "\u202egnp", "\u001b[2J", "ａｔｔａｃｋ", "x".repeat(200_000), "../x", "__proto__", "A/B"];
const bus = await Bus.open();
await bus.ask("ready", { type: "ready", registrations: names.map((name) => ({ kind: "tool", name, entry: 0, form: "register", spec })), diagnostics: [] });

export const tools = [];
