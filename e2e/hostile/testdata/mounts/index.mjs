// Mounts, unmounts, and changes its root.
import { plugin, syscalls } from "./hostile.mjs";

export default plugin("hostile-mounts", { attack: () => syscalls("mounts") });
