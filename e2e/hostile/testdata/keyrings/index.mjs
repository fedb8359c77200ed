// Reads and makes keys, which no name space divides.
import { plugin, syscalls } from "./hostile.mjs";

export default plugin("hostile-keyrings", { attack: () => syscalls("keys") });
