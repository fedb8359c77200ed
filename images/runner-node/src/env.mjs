// The environment variables that the plugin was granted. They come with the
// load message and not with the container, whose engine would write them to
// its disk.

const NAME = /^[A-Za-z_][A-Za-z0-9_]*$/;
/**
 * What a grant does not change, in any spelling: what ocmt sets, and what
 * alters how this process, or one that it starts, loads code, trusts
 * certificates, resolves names, reaches the network or uses its threads and
 * memory.
 */
const RESERVED = new RegExp(`^(?:${[
  "OCMT_.*", "HOME", "PATH", "TMPDIR", "__PROTO__",
  "NODE_(?!ENV$).*", "NPM_CONFIG_.*", "UV_.*", "OPENSSL_.*", "SSL_CERT_.*", ".*_PROXY",
  "LD_.*", "GLIBC_TUNABLES", "MALLOC_.*", "GCONV_PATH", "LOCPATH", "TZDIR", "HOSTALIASES", "LOCALDOMAIN", "RES_OPTIONS", "BASH_ENV",
].join("|")})$`, "i");

/**
 * isReserved tells whether a variable cannot be set for a plugin.
 * @param {string} name
 */
export const isReserved = (name) => !NAME.test(name) || RESERVED.test(name);

/**
 * applyEnv sets the variables, before anything of the plugin is imported.
 * @param {Record<string, string> | undefined} env
 * @param {(level: "warn", message: string) => void} diagnose told of those that are left out
 */
export function applyEnv(env, diagnose) {
  for (const [name, value] of Object.entries(env ?? {})) {
    if (!isReserved(name) && typeof value === "string") process.env[name] = value;
    else diagnose("warn", `the environment variable ${name} cannot be set for a plugin; it is left out`);
  }
}
