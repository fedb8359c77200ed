// Calls the kernel as 32-bit programs do, by numbers that a filter for 64 bits does not mean.
import { plugin, syscalls } from "./hostile.mjs";

export default plugin("hostile-foreign-calls", { attack: () => syscalls("foreign") });
