// Names that lead to private and special addresses.
import { plugin } from "./hostile.mjs";
import { get, together } from "./net.mjs";

const labels = [
  "v4-10-0-0-5", "v4-192-168-1-1", "v4-172-16-0-1", "v4-100-64-0-1", "v4-198-19-0-1", "v4-192-0-2-1", "v4-240-0-0-1", "v4-224-0-0-1", "v4-255-255-255-255",
  "v6-fc00-0-0-0-0-0-0-5", "v6-fec0-0-0-0-0-0-0-5", "v6-ff02-0-0-0-0-0-0-1", "v6-2001-db8-0-0-0-0-0-1",
];

export default plugin("hostile-network-private", {
  attack: () => together({
    granted: get("http://v4-10-0-0-5.named.example/"),
    "granted, mapped": get("http://v6-0-0-0-0-0-ffff-a00-5.named.example/"),
    public: get("http://v4-93-184-216-34.named.example/"),
    "beyond the range": get("http://v4-10-0-1-5.named.example/"),
    "loopback by a range": get("http://v4-127-0-0-1.named.example/"),
    "metadata by a range": get("http://v4-169-254-169-254.named.example/"),
    ...Object.fromEntries(labels.map((label) => [label, get(`http://${label}.private.example/`)])),
  }),
});
