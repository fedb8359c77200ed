// Becomes root or a neighbour, takes capabilities, and lifts its limits.
import { plugin, syscalls } from "./hostile.mjs";

export default plugin("hostile-privileges", { attack: () => syscalls("privileges") });
