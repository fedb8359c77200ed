// Looks at its variables.
import { plugin } from "./hostile.mjs";

const own = /^(OCMT_(TENANT|PLUGIN|GENERATION|BUS)|HOME|TMPDIR|PATH|LANG|NODE_ENV|NODE_EXTRA_CA_CERTS|HOSTNAME|SECRETS_ENVIRONMENT_KEY)$/;

export default plugin("hostile-secrets-environment", {
  attack: () => ({
    "host's": String(process.env.HOSTILE_SECRET),
    "others'": String(process.env.OTHERS_KEY_TOO ?? process.env.OTHERS_KEY),
    names: Object.keys(process.env).filter((name) => !own.test(name)).join(" ") || "its own alone",
  }),
});
