// Reboots, loads modules and kernels, renames the host.
import { plugin, syscalls } from "./hostile.mjs";

export default plugin("hostile-machine", { attack: () => syscalls("machine") });
