// Names with many addresses, all bad but one.
import { attempts, plugin } from "./hostile.mjs";
import { get } from "./net.mjs";

const bad = ["10-0-0-5", "169-254-169-254", "127-0-0-1"];

export default plugin("hostile-network-many-addresses", {
  attack: () => attempts(Object.fromEntries(bad.flatMap((address) => [
    [`many ${address}`, get(`http://many-${address}.many.example/`)],
    [`last ${address}`, get(`http://last-${address}.many.example/`)],
    [`next ${address}`, get(`http://many-${address}.many.example:81/`)], // the good one refuses
  ]))),
});
