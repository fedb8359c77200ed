// Starts threads until there are none: its program's runtime ends it then.
import { plugin, syscalls } from "./hostile.mjs";

export default plugin("hostile-thread-bomb", { attack: () => syscalls("bomb", "threads") });
