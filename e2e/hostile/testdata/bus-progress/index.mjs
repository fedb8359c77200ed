// Interim results of calls that are not its own, are over, or never were.
import { base, Bus, tool } from "./bus.mjs";

export const tools = [tool("attack", async ({ ids = [] }) => {
  const bus = await Bus.open();
  const updates = ["forged", "x".repeat(100_000), { __proto__: null, nested: [] }];
  let sent = 0;
  for (const id of [...ids, "", "1", "AAAAAAAAAAAAAAAAAAAAAAAAAA", "../x", "*"]) {
    for (const update of updates) {
      bus.pub(`${base}.out.progress`, JSON.stringify({ type: "progress", id, update }));
      sent++;
    }
  }
  bus.pub(`${base}.out.progress`, "no JSON");
  bus.pub(`${base}.out.progress`, JSON.stringify({ type: "cancel", id: "1" }));
  bus.pub(`${base}.out.cancel`, JSON.stringify({ type: "cancel", id: "1" })); // which nobody takes
  await bus.flush();
  bus.endLater();
  return { sent };
})];
