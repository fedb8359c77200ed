// Makes calls of which nothing is needed but their bugs.
import { plugin, syscalls } from "./hostile.mjs";

export default plugin("hostile-emulation", { attack: () => syscalls("emulation") });
