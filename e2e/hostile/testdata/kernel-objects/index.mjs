// Takes what the kernel keeps for it: watches, locked memory.
import { plugin, syscalls } from "./hostile.mjs";

export default plugin("hostile-kernel-objects", { attack: () => syscalls("bomb", "inotify", "locked") });
