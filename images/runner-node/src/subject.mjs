// The subjects of the bus that concern a runner.

/**
 * token encodes any text as one token of a subject: bytes outside
 * [A-Za-z0-9_-] become =HH, the empty text becomes "=".
 * @param {string} text
 */
export function token(text) {
  if (text === "") return "=";
  let out = "";
  for (const byte of Buffer.from(text, "utf8")) {
    const char = String.fromCharCode(byte);
    out += /[A-Za-z0-9_-]/.test(char) ? char : `=${byte.toString(16).toUpperCase().padStart(2, "0")}`;
  }
  return out;
}

/**
 * subjects builds every subject of one instance.
 * @param {{tenant: string, plugin: string, generation: string}} id
 */
export function subjects(id) {
  const base = `ocmt.v1.${token(id.tenant)}.${token(id.plugin)}.${token(id.generation)}`;
  return {
    /** @param {string} verb */
    in: (verb) => `${base}.in.${verb}`,
    /** @param {string} verb */
    out: (verb) => `${base}.out.${verb}`,
    /** The prefix of the runner's reply inbox. */
    inbox: `${base}.in.reply`,
  };
}
