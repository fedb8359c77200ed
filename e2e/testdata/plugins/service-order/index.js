// Services that note when they are started and stopped, and with what. The
// last one's start never returns.
const { appendFileSync, readFileSync, writeFileSync, rmSync } = require("node:fs");
const { join } = require("node:path");
const { setTimeout: sleep } = require("node:timers/promises");

const contexts = {};

module.exports = {
  id: "service-order",
  register(api) {
    const log = join(api.runtime.state.resolveStateDir(), "order.log");
    const note = (line) => appendFileSync(log, `${line}\n`);
    for (const id of ["one", "two", "three"]) {
      api.registerService({
        id,
        async start(context) {
          await sleep(30); // so that those who do not wait for it are seen
          contexts[id] = describe(context);
          note(`start ${id}`);
        },
        async stop(context) {
          await sleep(30);
          note(`stop ${id}${context.stateDir ? "" : " without its context"}`);
        },
      });
    }
    api.registerService({
      id: "never",
      start() {
        note("start never");
        return new Promise(() => {});
      },
      stop: () => note("stop never"),
    });
    api.registerTool({
      name: "noted", description: "What the services noted.", parameters: { type: "object", properties: {} },
      execute: async () => ({ lines: readFileSync(log, "utf8").trim().split("\n"), contexts }),
    });
  },
};

/** The kinds of what a service is given, and whether its state can be written. */
function describe({ config, stateDir, workspaceDir, logger, serviceHealth, gatewayEvents }) {
  const file = join(stateDir, "probe");
  writeFileSync(file, "written");
  const state = readFileSync(file, "utf8");
  rmSync(file);
  return {
    state, stateDir, workspaceDir: typeof workspaceDir,
    own: config?.plugins?.entries?.["service-order"]?.config?.greeting,
    logger: typeof logger.info, reportFailure: typeof serviceHealth.reportFailure,
    clearFailure: typeof serviceHealth.clearFailure, emit: typeof gatewayEvents.emit,
  };
}
