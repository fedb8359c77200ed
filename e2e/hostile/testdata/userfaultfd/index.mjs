// Handles page faults, to hold the kernel where an exploit wants it.
import { plugin, syscalls } from "./hostile.mjs";

export default plugin("hostile-userfaultfd", { attack: () => syscalls("userfaultfd") });
