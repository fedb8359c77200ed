// The environment variables that the plugin was granted. They come with the
// load message and not with the container, whose engine would write them to
// its disk.

const NAME = /^[A-Za-z_][A-Za-z0-9_]*$/;
/** What the runner and its container are set up with; a plugin's grant does not change it. */
const RESERVED = /^(?:OCMT_.*|NODE_(?!ENV$).*|LD_.*|SSL_CERT_.*|HOME|PATH|TMPDIR)$/;

/**
 * applyEnv sets the variables, before anything of the plugin is imported.
 * @param {Record<string, string> | undefined} env
 * @param {(level: "warn", message: string) => void} diagnose told of those that are left out
 */
export function applyEnv(env, diagnose) {
  for (const [name, value] of Object.entries(env ?? {})) {
    if (NAME.test(name) && !RESERVED.test(name) && typeof value === "string") process.env[name] = value;
    else diagnose("warn", `the environment variable ${name} cannot be set for a plugin; it is left out`);
  }
}
