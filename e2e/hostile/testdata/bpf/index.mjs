// Loads programs into the kernel.
import { plugin, syscalls } from "./hostile.mjs";

export default plugin("hostile-bpf", { attack: () => syscalls("bpf") });
