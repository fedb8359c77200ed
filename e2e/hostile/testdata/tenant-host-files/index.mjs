// Asks to be granted the directories in which the host keeps what is its own.
import { plugin } from "./hostile.mjs";

export default plugin("hostile-tenant-host-files", { attack: () => ({ asking: "for the host's directories" }) });
