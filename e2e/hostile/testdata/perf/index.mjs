// Reads the kernel's log, and counters of what others run.
import { plugin, syscalls } from "./hostile.mjs";

export default plugin("hostile-perf", { attack: () => syscalls("perf") });
