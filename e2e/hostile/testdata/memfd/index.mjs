// Runs a program from memory, that is in no file system.
import { plugin, syscalls } from "./hostile.mjs";

export default plugin("hostile-memfd", { attack: () => syscalls("memfd") });
