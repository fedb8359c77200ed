// Leaves dead children that nobody waits for, each of which is a process still.
import { plugin, syscalls } from "./hostile.mjs";

export default plugin("hostile-zombies", { attack: () => syscalls("bomb", "zombies") });
