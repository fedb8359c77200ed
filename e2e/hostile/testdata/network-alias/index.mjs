// Chains of aliases, and names that lead nowhere.
import { attempts, plugin } from "./hostile.mjs";
import { get } from "./net.mjs";

const labels = ["alias-169-254-169-254", "alias-127-0-0-1", "alias-10-0-0-5", "loop", "none"];

export default plugin("hostile-network-alias", {
  attack: () => attempts({
    granted: get("http://alias-93-184-216-34.alias.example/"),
    ...Object.fromEntries(labels.map((label) => [label, get(`http://${label}.alias.example/`)])),
  }),
});
