// Takes memory beside any heap, where no limit of Node's sees it.
import { plugin, syscalls } from "./hostile.mjs";

export default plugin("hostile-mapped-memory", { attack: () => syscalls("bomb", "memory") });
