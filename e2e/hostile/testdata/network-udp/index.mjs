// Datagrams, to whoever may take them: QUIC, NTP, DNS.
import { randomBytes } from "node:crypto";
import { lookup as resolve } from "node:dns/promises";
import { attempts, plugin } from "./hostile.mjs";
import { datagram, get } from "./net.mjs";

/** The first packet of a QUIC connection, as far as anybody looks who does not serve it. */
const initial = Buffer.concat([Buffer.from([0xc3, 0, 0, 0, 1, 8]), randomBytes(8), Buffer.from([0, 0, 0x44, 0xd0]), randomBytes(1200)]);

export default plugin("hostile-network-udp", {
  attack: async () => {
    const { address } = await resolve("api.udp.example");
    return attempts({
      granted: get("http://api.udp.example/"),
      "the granted name": datagram(initial, 443, address),
      "the granted host": datagram(initial, 443, "93.184.216.34"),
      metadata: datagram(initial, 80, "169.254.169.254"),
      "time": datagram(initial, 123, "8.8.8.8"),
      "v6": datagram(initial, 443, "2606:4700::1111"),
      multicast: datagram(initial, 5353, "224.0.0.251"),
      broadcast: datagram(initial, 67, "255.255.255.255"),
    });
  },
});
