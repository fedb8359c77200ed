// Looks for another tenant's secret.
import { plugin } from "./hostile.mjs";

export default plugin("hostile-secrets-other-tenant", { attack: () => ({ theirs: String(process.env.THEIR_KEY) }) });
