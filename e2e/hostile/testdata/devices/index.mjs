// Makes and opens devices.
import { plugin, syscalls } from "./hostile.mjs";

export default plugin("hostile-devices", { attack: ({ work }) => syscalls("devices", "/state", "/tmp", work) });
