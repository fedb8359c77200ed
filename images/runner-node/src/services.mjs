// The services of the plugin: the host starts and stops them one by one.

import { pluginContext } from "./context.mjs";
import { RunnerError, wireError } from "./errors.mjs";
import { Health } from "./health.mjs";
import { max, min, now, ownJSON, push, SafeMap } from "./primordials.mjs";
import { answer, answerError } from "./reply.mjs";
import { Service } from "./service.mjs";

/** How long one stop() may take when the whole plugin is stopped, in ms. */
const STOP_TIMEOUT = 5000;

/**
 * @typedef {object} Source a service as it was registered
 * @property {"export" | "register"} form
 * @property {{id: string, start: Function, stop?: Function}} service
 */

export class Services {
  #bus;
  #healthSubject;
  #hostCalls;
  #warn;
  /** @type {import("./loader.mjs").Plugin | null} */
  #plugin = null;
  /** @type {Map<string, Service>} */
  #services = new SafeMap();
  /** @type {Map<Service, true>} those that were started, in the order of their last start */
  #order = new SafeMap();
  #ended = false;

  /**
   * @param {object} options
   * @param {import("./nats.mjs").Client} options.bus
   * @param {string} options.healthSubject
   * @param {import("./hostcalls.mjs").HostCalls} options.hostCalls
   * @param {(message: string) => void} options.warn
   */
  constructor({ bus, healthSubject, hostCalls, warn }) {
    this.#bus = bus;
    this.#healthSubject = healthSubject;
    this.#hostCalls = hostCalls;
    this.#warn = warn;
  }

  /**
   * use makes the services of a loaded plugin known.
   * @param {import("./loader.mjs").Plugin} plugin
   */
  use(plugin) {
    this.#plugin = plugin;
    for (const [id, { form, service }] of plugin.registry.services) {
      this.#services.set(id, new Service({ id, service, equip: () => this.#equip(id, form), warn: this.#warn }));
    }
  }

  /**
   * call starts or stops a service and answers.
   * @param {{id: string, service: string, op: "start" | "stop", timeoutMs: number}} call
   * @param {import("./nats.mjs").Reply} reply
   */
  async call(call, reply) {
    const head = { type: "service.result", id: call.id };
    try {
      const service = this.#services.get(call.service);
      if (!service) throw new RunnerError("unknown_service", `no service ${call.service} is registered`);
      const again = call.op === "start" && service.active;
      if (call.op === "start") await this.#start(service, call.timeoutMs);
      else await service.stop(call.timeoutMs);
      answer(reply, head, () => ({}));
      if (again) service.repeatHealth(); // a new host does not know how it is
    } catch (error) {
      answerError(reply, head, error);
    }
  }

  #start(service, timeoutMs) {
    if (this.#ended) throw new RunnerError("cancelled", "the plugin is being stopped");
    if (!service.active) this.#order.delete(service);
    this.#order.set(service, true);
    return service.start(timeoutMs);
  }

  /**
   * stopAll stops what runs, the last one that was started first.
   * @param {number} budgetMs for all together
   */
  async stopAll(budgetMs) {
    this.#ended = true;
    const end = now() + budgetMs;
    const started = [];
    this.#order.forEach((_, service) => push(started, service));
    for (let i = started.length - 1; i >= 0; i--) {
      try {
        await started[i].stop(max(1, min(STOP_TIMEOUT, end - now())));
      } catch (error) {
        this.#warn(wireError(error).message);
      }
    }
  }

  /** repeatHealth tells a host that may be a new one which services have failed. */
  repeatHealth() {
    this.#services.forEach((service) => service.repeatHealth());
  }

  /** What one start of a service is given. */
  #equip(id, form) {
    const { load, config, logger } = this.#plugin;
    const health = new Health(({ failed, reason }) => {
      const message = { type: "service.health", service: id, failed, ...(reason ? { reason } : {}) };
      this.#bus.publish(this.#healthSubject, ownJSON(message));
    });
    const { agentId, ...common } = pluginContext(load, config, logger);
    const more = { serviceHealth: health.reporter, gatewayEvents: this.#gatewayEvents() };
    return { health, context: form === "export" ? { ...common, agentId, ...more } : { ...common, ...more } };
  }

  #gatewayEvents() {
    return {
      emit: (event, payload, options) => {
        const scope = typeof options?.scope === "string" ? { scope: options.scope } : {};
        this.#hostCalls.send("host.emit", { event: String(event), payload: payload ?? null, ...scope });
      },
      onSessionsChanged: () => {
        this.#warn("gatewayEvents.onSessionsChanged: this host does not tell of sessions");
        return () => {};
      },
    };
  }
}
