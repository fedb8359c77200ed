// Granted names that lead to metadata services, in every form of the address.
import { plugin } from "./hostile.mjs";
import { get, together } from "./net.mjs";

const labels = [
  "v4-169-254-169-254", "v4-169-254-0-1", "v4-100-100-100-200", "v4-168-63-129-16", "v4-192-0-0-192",
  "v6-0-0-0-0-0-ffff-a9fe-a9fe", "v6-0-0-0-0-ffff-0-a9fe-a9fe", "v6-0-0-0-0-0-0-a9fe-a9fe", // mapped, translated, compatible
  "v6-64-ff9b-0-0-0-0-a9fe-a9fe", "v6-64-ff9b-1-0-0-0-a9fe-a9fe", "v6-2002-a9fe-a9fe-0-0-0-0-1", "v6-2001-0-a9fe-a9fe-0-0-5601-5601", // NAT64, 6to4, Teredo
  "v6-fd00-ec2-0-0-0-0-0-254", "v6-fd20-ce-0-0-0-0-0-254", "v6-fe80-0-0-0-0-0-a9fe-a9fe",
];

export default plugin("hostile-network-metadata", {
  attack: () => together({
    granted: get("http://v4-93-184-216-34.meta.example/"),
    ...Object.fromEntries(labels.map((label) => [label, get(`http://${label}.meta.example/latest/meta-data/`)])),
  }),
});
