// Speaks to the parts of the kernel that listen on netlink.
import { plugin, syscalls } from "./hostile.mjs";

export default plugin("hostile-netlink-families", { attack: () => syscalls("netlink families") });
