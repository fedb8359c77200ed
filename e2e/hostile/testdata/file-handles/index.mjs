// Opens files of the host by their numbers.
import { plugin, syscalls } from "./hostile.mjs";

export default plugin("hostile-file-handles", { attack: () => syscalls("handles", "/state", "/plugin", "/run/ocmt", "/tmp", "/") });
