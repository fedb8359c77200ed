// Tells of services that it does not have.
import { base, baseOf, Bus, tenant, tool } from "./bus.mjs";

const health = (service, reason) => JSON.stringify({ type: "service.health", service, failed: true, reason });

export const services = [{ id: "own", start() {}, stop() {} }];

export const tools = [tool("attack", async ({ victim, victimGeneration = 1 }) => {
  const bus = await Bus.open();
  for (const service of ["heart", "victim", "victim/heart", "../victim", "own\u0000", "__proto__", "*"]) bus.pub(`${base}.out.health`, health(service, "forged \u001b[31m"));
  bus.pub(`${baseOf(tenant, victim, victimGeneration)}.out.health`, health("heart", "forged"));
  for (let i = 0; i < 5000; i++) bus.pub(`${base}.out.health`, health(`s${i}`, "x".repeat(200)));
  bus.pub(`${base}.out.health`, health("own", "x".repeat(5000)));
  await bus.flush();
  const refused = bus.refusals.length;
  bus.endLater();
  return { refused };
})];
