// Granted names that lead to the host itself.
import { plugin } from "./hostile.mjs";
import { get, together } from "./net.mjs";

const labels = [
  "v4-127-0-0-1", "v4-127-9-9-9", "v4-0-0-0-0", "v4-198-18-0-1", "v4-10-9-9-9", "v4-8-8-4-4",
  "v6-0-0-0-0-0-0-0-1", "v6-0-0-0-0-0-0-0-0", "v6-0-0-0-0-0-ffff-7f00-1", "v6-2606-4700-0-0-0-0-0-8844", "v6-fd00-18-0-0-0-0-0-1",
];

export default plugin("hostile-network-own-addresses", {
  attack: () => together({
    granted: get("http://v4-93-184-216-34.own.example/"),
    ...Object.fromEntries(labels.flatMap((label) => [80, 2375].map((port) => [`${label}:${port}`, get(`http://${label}.own.example:${port}/`)]))),
  }),
});
