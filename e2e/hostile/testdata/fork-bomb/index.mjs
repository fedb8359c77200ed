// Forks until there is no process left.
import { plugin, syscalls } from "./hostile.mjs";

export default plugin("hostile-fork-bomb", { attack: () => syscalls("bomb", "processes") });
