// Claims to be somebody else, in every way that CONNECT has.
import { background, base, baseOf, Bus, tenant } from "./bus.mjs";

const claims = [
  { user: "host", pass: "" }, { user: "runner", pass: "x" }, { user: "admin", pass: "admin" }, { auth_token: "x" },
  { jwt: "eyJ0eXAiOiJKV1QiLCJhbGciOiJlZDI1NTE5LW5rZXkifQ.e30.x", sig: "x" }, { nkey: "UAAAAAAAAAAA", sig: "x" },
  { account: "$SYS" }, { account: "$G", new_account: true }, { tls_required: true }, { verbose: true }, { pedantic: true },
  { echo: false }, { headers: false, no_responders: false }, { protocol: 9 }, { protocol: -1 }, { name: "x".repeat(2000) }, { user: "h\u0000st" },
];

export const tools = background(async ({ victim, victimGeneration = 1 }) => {
  const other = baseOf(tenant, victim, victimGeneration);
  let gained = 0;
  const odd = [];
  for (const claim of claims) {
    const bus = await Bus.open(claim);
    bus.pub(`${other}.out.host`, "x");
    bus.send(`SUB ${other}.in.> 1\r\nSUB > 2\r\nSUB $SYS.> 3\r\n`);
    bus.pub("$SYS.REQ.SERVER.PING", "x");
    await bus.flush(1500);
    const refused = bus.refusals.filter((text) => text.startsWith("Permissions Violation")).length;
    if (refused !== 5 && !bus.closed) {
      gained++;
      odd.push([claim, bus.heard.slice(-300)]);
    }
    bus.end();
  }
  const twice = await Bus.open();
  twice.send(`CONNECT {"user":"host"}\r\n`);
  await twice.until(/-ERR/, 2000);
  const second = twice.refusals[0] ?? "accepted";
  twice.end();
  return { tried: claims.length, gained, second, odd, base };
});
