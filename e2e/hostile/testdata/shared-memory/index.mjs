// Looks for memory that the host shares by System V and POSIX means.
import { plugin, syscalls } from "./hostile.mjs";

export default plugin("hostile-shared-memory", { attack: ({ key }) => syscalls("ipc", key) });
