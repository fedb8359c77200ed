// Learn mode: the plugin runs as it always does, and what it reaches for and
// was not given is told to the host. What it sees stays the same: what is not
// there is looked up in the prototype, where a proxy hears of it.

import { isIP, Socket } from "node:net";
import { PROBED } from "./unavailable.mjs";

/** Variables that Node itself and common libraries look for: they say nothing about the plugin. */
const COMMON = new Set([
  // terminals and colours
  "DEBUG", "FORCE_COLOR", "NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "COLORTERM", "TERM", "TERM_PROGRAM", "TERM_PROGRAM_VERSION",
  "TMUX", "COLUMNS", "LINES", "MOCHA_COLORS", "DEBUG_COLORS", "DEBUG_DEPTH", "DEBUG_FD", "DEBUG_HIDE_DATE", "DEBUG_SHOW_HIDDEN",
  // continuous integration
  "CI", "CI_NAME", "CONTINUOUS_INTEGRATION", "BUILD_NUMBER", "TF_BUILD", "TRAVIS", "CIRCLECI", "APPVEYOR", "GITLAB_CI",
  "BUILDKITE", "DRONE", "GITHUB_ACTIONS", "GITEA_ACTIONS", "TEAMCITY_VERSION", "VERCEL", "JEST_WORKER_ID", "VITEST",
  // the user and the system
  "USER", "USERNAME", "LOGNAME", "SHELL", "PWD", "OLDPWD", "EDITOR", "VISUAL", "PAGER", "LANG", "LANGUAGE", "TMP", "TEMP", "DISPLAY",
  "APPDATA", "LOCALAPPDATA", "USERPROFILE", "HOMEDRIVE", "HOMEPATH", "SYSTEMROOT", "WINDIR", "COMSPEC", "PATHEXT", "PROGRAMFILES",
  "PROGRAMDATA", "MSYSTEM", "OSTYPE",
  // switches of Node, and of libraries that are in most packages
  "WATCH_REPORT_DEPENDENCIES", "READABLE_STREAM", "GRACEFUL_FS_PLATFORM", "TEST_GRACEFUL_FS_GLOBAL_PATCH", "WS_NO_BUFFER_UTIL", "WS_NO_UTF_8_VALIDATE",
]);
const COMMON_GROUPS = /^(?:NODE_|LC_|XDG_|UNDICI_)/;

const VARIABLE = /^[A-Z][A-Z0-9_]{0,127}$/;
const SECRET = /(?:KEY|TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE)$/;
const SEGMENT = /^[A-Za-z0-9_-]+$/;
/** How deep the configuration is watched: no path of a grant has more names. */
const MAX_DEPTH = 16;
/** Names that libraries look for to tell what kind of object one is. */
const KINDS = new Set([...PROBED, "length", "inspect", "nodeType", "tagName", "asymmetricMatch", "href"]);

/**
 * learn begins to watch what the plugin reaches for. It is called before
 * anything of the plugin is imported, and once.
 * @param {object} options
 * @param {string} options.plugin the plugin's id
 * @param {object} options.config what the plugin sees of the configuration
 * @param {(name: string) => boolean} options.grantable whether a variable can be granted at all
 * @param {(kind: import("./wishes.mjs").Wish["kind"], target: string) => void} options.wish
 */
export function learn({ plugin, config, grantable, wish }) {
  watchConnections(quietly((target) => wish("network", target)));
  watch(process.env, quietly((name) => {
    if (!VARIABLE.test(name) || COMMON.has(name) || COMMON_GROUPS.test(name) || !grantable(name)) return;
    wish(SECRET.test(name) ? "secret" : "env", name);
  }));
  watchConfig(config, [], ["plugins", "entries", plugin], quietly((path) => wish("config", path)));
}

/** What goes wrong with a report is no concern of the plugin's. */
function quietly(report) {
  return (...args) => {
    try {
      report(...args);
    } catch {
      // The plugin changed what the report is made with.
    }
  };
}

/**
 * watch has a function told of the names that are looked up in an object and
 * are not there. The object stays what it is, but for its prototype, which
 * inherits from the one it had.
 * @param {object} object
 * @param {(name: string) => void} missed
 */
function watch(object, missed) {
  const base = Object.getPrototypeOf(object);
  const between = Object.create(base, { constructor: { value: Object, writable: true, configurable: true } });
  const note = (name) => {
    if (typeof name === "string" && !(name in between)) missed(name);
  };
  Object.setPrototypeOf(object, new Proxy(between, {
    get(target, name, receiver) {
      note(name);
      return Reflect.get(target, name, receiver);
    },
    has(target, name) {
      note(name);
      return Reflect.has(target, name);
    },
  }));
}

/**
 * watchConfig watches an object of the configuration and those below it. A
 * list is given whole or not at all, so nothing is missing in it.
 * @param {object} object
 * @param {string[]} path to the object
 * @param {string[]} own the path of the plugin's own entry, which is always there
 * @param {(path: string) => void} missed
 */
function watchConfig(object, path, own, missed) {
  const isOwn = (names) => names.every((name, i) => i >= own.length || name === own[i]);
  watch(object, (name) => {
    const names = [...path, name];
    if (SEGMENT.test(name) && !KINDS.has(name) && !isOwn(names)) missed(names.join("."));
  });
  if (path.length + 1 >= MAX_DEPTH) return;
  for (const [name, value] of Object.entries(object)) {
    if (value === null || typeof value !== "object" || Array.isArray(value)) continue;
    if (!SEGMENT.test(name) || (path.length === own.length - 1 && isOwn([...path, name]))) continue;
    watchConfig(value, [...path, name], own, missed);
  }
}

/** Everything that connects in this process goes through here: net, tls, http, https, http2, fetch and WebSocket. */
function watchConnections(wish) {
  const { connect } = Socket.prototype;
  Object.defineProperty(Socket.prototype, "connect", {
    configurable: true, enumerable: true, writable: true,
    value: Object.defineProperties(function (...args) {
      const target = destination(args);
      if (target) wish(target);
      return Reflect.apply(connect, this, args);
    }, { name: { value: connect.name }, length: { value: connect.length } }),
  });
}

/** The destination of the arguments of connect; null of a local socket and of an address, which nobody can grant. */
function destination(args) {
  try {
    let [first, second] = args;
    if (Array.isArray(first)) [first] = first; // as net.connect passes them on
    const options = first !== null && typeof first === "object" ? first : { port: first, host: second };
    const port = Number(options.port);
    const host = typeof options.host === "string" && options.host ? options.host.toLowerCase().replace(/\.$/, "") : "localhost";
    const named = /^[^\s\p{C}:]{1,253}$/u.test(host) && !isIP(host);
    return !options.path && named && Number.isInteger(port) && port > 0 && port < 65536 ? `${host}:${port}` : null;
  } catch {
    return null; // it is connect that tells what is wrong
  }
}
