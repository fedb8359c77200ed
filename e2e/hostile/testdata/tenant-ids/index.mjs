// Is there for whoever calls it; what it asks for, its accomplice outside asks
// for on a tenant's call socket.
import { plugin } from "./hostile.mjs";

export default plugin("hostile-tenant-ids", { attack: () => ({ asking: "for others" }) });
