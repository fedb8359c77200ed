// Fills pipes and sockets that nobody reads.
import { plugin, syscalls } from "./hostile.mjs";

export default plugin("hostile-kernel-buffers", { attack: () => syscalls("bomb", "pipes", "sockets") });
