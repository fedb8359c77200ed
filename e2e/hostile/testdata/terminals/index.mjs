// Types into terminals.
import { plugin, syscalls } from "./hostile.mjs";

export default plugin("hostile-terminals", { attack: () => syscalls("tty") });
