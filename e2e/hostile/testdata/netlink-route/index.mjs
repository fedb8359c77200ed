// Gives itself a network by the one family of netlink that Node needs.
import { plugin, syscalls } from "./hostile.mjs";

export default plugin("hostile-netlink-route", { attack: () => syscalls("netlink") });
