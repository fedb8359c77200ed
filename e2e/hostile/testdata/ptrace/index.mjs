// Takes hold of the first process and of the runner.
import { plugin, syscalls } from "./hostile.mjs";

export default plugin("hostile-ptrace", { attack: () => syscalls("ptrace") });
