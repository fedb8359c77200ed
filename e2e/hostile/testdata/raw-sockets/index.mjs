// Opens sockets that reach around TCP: raw packets, the hypervisor, the kernel's crypto code, buses.
import { plugin, syscalls } from "./hostile.mjs";

export default plugin("hostile-raw-sockets", { attack: () => syscalls("sockets") });
