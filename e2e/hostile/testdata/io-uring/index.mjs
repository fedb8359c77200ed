// Asks for a ring by which the kernel does what the filter of system calls does not see.
import { plugin, syscalls } from "./hostile.mjs";

export default plugin("hostile-io-uring", { attack: () => syscalls("io_uring") });
