// Functions of OpenClaw's host that this host does not have. They exist, so
// that a plugin can be loaded, and say what is missing when they are called.

/**
 * notAvailable is a function that throws when it is called.
 * @param {string} path how the plugin reached it
 */
export function notAvailable(path) {
  return () => {
    throw new Error(`not available in this host: ${path}`);
  };
}

/** Names that the language itself looks up; answering them would make the object a promise or a module. */
export const PROBED = new Set(["then", "catch", "finally", "toJSON", "constructor", "prototype", "default", "__esModule"]);

/**
 * unavailable is a namespace of unknown functions: each property is one
 * again, and calling any of them throws.
 * @param {string} path
 * @param {object} [known] what there is nevertheless
 */
export function unavailable(path, known = {}) {
  return new Proxy(Object.assign(notAvailable(path), known), {
    get(target, key) {
      if (Object.hasOwn(known, key)) return known[key];
      if (typeof key === "symbol" || PROBED.has(key)) return undefined;
      return (known[key] = unavailable(`${path}.${key}`));
    },
  });
}
