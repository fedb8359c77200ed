// Connects to sockets that are in no file system, of which the host has some.
import { plugin, syscalls } from "./hostile.mjs";

export default plugin("hostile-abstract-sockets", { attack: ({ names }) => syscalls("ambient", ...names) });
