// Has the package name of a plugin that is installed, by which people call it.
import { plugin } from "./hostile.mjs";

export default plugin("hostile-tenant-same-name", { attack: () => ({ named: "@hostile/kit" }), who: () => ({ who: "the attacker" }) });
