// Sets the clock.
import { plugin, syscalls } from "./hostile.mjs";

export default plugin("hostile-clock", { attack: () => syscalls("clock") });
