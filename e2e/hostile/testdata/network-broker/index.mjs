// Speaks to the broker itself, in whatever way.
import { attempts, plugin } from "./hostile.mjs";
import { ask, broker, get, say } from "./net.mjs";

const lines = {
  "another host": "CONNECT evil.example:443\n",
  "two lines": "CONNECT api.broker.example:81\nCONNECT api.broker.example:80\n",
  "lower case": "connect api.broker.example:80\n",
  "HTTP": "CONNECT api.broker.example:80 HTTP/1.1\r\n\r\n",
  "a carriage return": "CONNECT api.broker.example:80\r\n",
  "two blanks": "CONNECT  api.broker.example:80\n",
  "no host": "CONNECT :80\n",
  "a wildcard": "CONNECT *.broker.example:80\n",
  "unicode": "CONNECT \u00e4pi.broker.example:80\n",
  "a path": "CONNECT /run/docker.sock:80\n",
  "a unix socket": "CONNECT unix:/run/docker.sock\n",
  "a long name": `CONNECT ${"a.".repeat(200)}example:80\n`,
  "a longer line": `CONNECT ${"a".repeat(100_000)}\n`,
  "a zero byte": "CONNECT api.broker.example\0:80\n",
  "an empty line": "\n",
  "another verb": "BIND 0.0.0.0:80\n",
  "WATCH with more": "WATCH everything\n",
  "REPORT of nothing": "REPORT \n",
  "REPORT of escapes": "REPORT \x1b[2J\n",
  "binary": Buffer.alloc(2048, 0xff),
  "TLS": Buffer.from([0x16, 3, 1, 0, 5, 1, 0, 0, 1, 0, 10]),
  "SOCKS": Buffer.from([5, 1, 0, 10]),
};

/** Every message that the broker sends must be one of its own, without the host's words. */
const words = async () => {
  try {
    return await say({ path: broker }, "CONNECT none.broker.example:80\n", 4000)();
  } catch (error) {
    return error.code;
  }
};

export default plugin("hostile-network-broker", {
  attack: async () => ({
    ...(await attempts({
      granted: get("http://api.broker.example/"),
      "the grants": ask("WATCH\n", 500),
      ...Object.fromEntries(Object.entries(lines).map(([name, line]) => [name, ask(line)])),
      "granted still": get("http://api.broker.example/"),
    })),
    words: await words(),
  }),
});
