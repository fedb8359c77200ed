// Makes name spaces, in which it would be root, and enters those of the first
// process.
import { plugin, syscalls } from "./hostile.mjs";

export default plugin("hostile-namespaces", { attack: () => ({ ...syscalls("clone"), ...syscalls("namespaces") }) });
