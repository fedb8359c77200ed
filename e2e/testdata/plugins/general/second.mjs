// An ES module entry of the document form: what a plugin does in its place.
import { execFile, fork } from "node:child_process";
import dns from "node:dns/promises";
import { once } from "node:events";
import { accessSync, constants, existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import http from "node:http";
import { createRequire } from "node:module";
import { homedir, tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { Worker } from "node:worker_threads";
import inside from "#inside";

const require = createRequire(import.meta.url);
const own = (name) => join(import.meta.dirname, "lib", name);
const { default: data } = await import("./lib/data.json", { with: { type: "json" } });

const modules = async () => ({
  inside,
  data,
  read: readFileSync(new URL("./lib/data.json", import.meta.url), "utf8").length > 0,
  requiredESM: require("./lib/inside.js").default,
  wasm: Object.keys(await WebAssembly.instantiate(new Uint8Array([0, 97, 115, 109, 1, 0, 0, 0]))).length,
  hash: (await import("node:crypto")).createHash("md5").update("a").digest("hex"),
  time: new Date(0).toLocaleString("de-DE", { timeZone: "America/New_York" }),
});

async function children() {
  const { stdout } = await promisify(execFile)(process.execPath, [own("payload.mjs"), "spawned"]);
  const child = fork(own("payload.mjs"), ["forked"], { stdio: ["ignore", "pipe", "inherit", "ipc"] });
  const [forked] = await once(child.stdout, "data");
  const worker = new Worker(own("worker.mjs"));
  const [posted] = await once(worker, "message");
  return { spawned: stdout.trim(), forked: String(forked).trim(), posted };
}

function places() {
  const write = (dir) => {
    try {
      mkdirSync(dir, { recursive: true });
      writeFileSync(join(dir, "file"), "x");
      return "written";
    } catch (error) {
      return error.code;
    }
  };
  accessSync(process.cwd(), constants.R_OK);
  return {
    cwd: process.cwd() === homedir(), HOME: process.env.HOME === homedir(),
    workspace: existsSync(join(homedir(), ".openclaw", "workspace")),
    relative: write("below"), tmp: write(join(tmpdir(), "t")), own: write(import.meta.dirname),
  };
}

/** Without a grant every way out fails at once. */
async function network() {
  const ways = {
    fetch: () => fetch("https://ocmt-e2e.test/"),
    lookup: () => dns.lookup("ocmt-e2e.test"),
    resolve: () => dns.resolve("ocmt-e2e.test"),
    get: () => once(http.get("http://ocmt-e2e.test/"), "response"),
    address: () => fetch("http://192.0.2.1/"),
  };
  const out = {};
  for (const [name, way] of Object.entries(ways)) {
    const started = performance.now();
    const code = await way().then(() => "reached", (error) => (error.cause ?? error).code);
    out[name] = { code, slow: performance.now() - started > 1000 };
  }
  return out;
}

const tool = (name, execute) => ({ name, description: name, execute });
export const tools = [
  tool("modules", modules), tool("children", children), tool("places", places), tool("network", network),
  tool("fetches", () => fetch("https://ocmt-e2e.test/")),
];
