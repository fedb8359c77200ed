// The runner: it connects to the host's bus, loads one plugin, and answers
// calls until it is told to stop. A plugin's unhandled rejection or exception
// ends the process, as it would end any Node program; the host starts another.

import { Client } from "./nats.mjs";
import { boundOutput, warner } from "./output.mjs";
import { exit } from "./primordials.mjs";
import { Runner } from "./runner.mjs";
import { subjects } from "./subject.mjs";

/** The runner's own version. */
const VERSION = "1.0.0";

function main() {
  const { OCMT_BUS, OCMT_TENANT, OCMT_PLUGIN, OCMT_GENERATION } = process.env;
  if (!OCMT_BUS || !OCMT_TENANT || !OCMT_PLUGIN || !OCMT_GENERATION) {
    process.stderr.write("runner: OCMT_BUS, OCMT_TENANT, OCMT_PLUGIN and OCMT_GENERATION must be set\n");
    return exit(2);
  }
  boundOutput();
  const warn = warner(writeError);
  const names = subjects({ tenant: OCMT_TENANT, plugin: OCMT_PLUGIN, generation: OCMT_GENERATION });
  const runner = new Runner({ subjects: names, version: VERSION, exit, warn });
  const bus = new Client({
    path: OCMT_BUS,
    name: "ocmt-runner",
    version: VERSION,
    inbox: names.inbox,
    onConnect: () => runner.connected(),
    onDown: (reason) => runner.disconnected(reason),
  });
  runner.attach(bus);
  bus.connect();
}

/** A plugin may have replaced process.stderr; a line that is lost is no reason to end. */
function writeError(text) {
  try {
    process.stderr.write(text);
  } catch {
    // There is nowhere to say it.
  }
}

main();
