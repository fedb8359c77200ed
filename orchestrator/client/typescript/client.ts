/**
 * A client of ocmt's API over its unix socket, for hosts in TypeScript. Its types are generated from the OpenAPI document
 * (schema.d.ts). Node runs it as it is.
 */
import createClient, { type Client as APIClient } from "openapi-fetch";
import { setTimeout as sleep } from "node:timers/promises";
import { asError, lost, OcmtError } from "./errors.ts";
import { attach, type Handler, type Host } from "./host.ts";
import type { components, paths } from "./schema.d.ts";
import { messages } from "./sse.ts";
import { unixFetch } from "./unix.ts";

export { OcmtError };
export type { Handler, Host };
export type Schemas = components["schemas"];

/** What a call's stream holds: "done" is the last. */
export type CallEvent =
  | { event: "update"; data: unknown }
  | { event: "ask"; data: Schemas["Approval"] }
  | { event: "done"; data: Schemas["CallResult"] };

/** Options of a call: a signal that cancels it in the daemon too, and a key under which it is answered once. */
export interface CallOptions {
  signal?: AbortSignal;
  idempotencyKey?: string;
}

/** Which events to send. */
export interface EventOptions {
  since?: number;
  follow?: boolean;
  signal?: AbortSignal;
}

/** Returns a client of the daemon on that socket. It connects when it is first used. */
export function connect(socket: string): Client {
  return new Client(socket);
}

/** Waits for an answer of {@link Client.api} and returns its data. What is no success is thrown as an OcmtError. */
export async function ok<T>(answer: Promise<{ data?: T; error?: unknown; response: Response }>): Promise<T> {
  const { data, error, response } = await answer;
  if (!response.ok) throw asError(error);
  return data as T;
}

export class Client {
  /** Every operation of the API, typed; see {@link ok}. */
  readonly api: APIClient<paths>;
  readonly #socket: string;

  constructor(socket: string) {
    this.#socket = socket;
    this.api = createClient<paths>({ baseUrl: "http://ocmt", fetch: unixFetch(socket), pathSerializer: fill });
  }

  /** Calls a tool and yields what happens meanwhile, then the result. Leaving the loop cancels the call. */
  async *stream(tenant: string, plugin: string, tool: string, request: Schemas["CallRequest"], options: CallOptions = {}): AsyncGenerator<CallEvent, void, undefined> {
    const body = await ok(this.api.POST("/v1/tenants/{tenant}/plugins/{id}/tools/{tool}/stream", {
      params: { path: { tenant, id: plugin, tool }, header: options.idempotencyKey === undefined ? {} : { "Idempotency-Key": options.idempotencyKey } },
      body: request, signal: options.signal ?? null, parseAs: "stream",
    }));
    try {
      for await (const { event, data } of messages(stream(body))) {
        if (event === "error") throw asError(JSON.parse(data));
        if (event === "update" || event === "ask" || event === "done") yield { event, data: JSON.parse(data) } as CallEvent;
        if (event === "done") return;
      }
    } catch (error) {
      throw failure(error, options.signal);
    }
    throw lost("the stream ended without a result");
  }

  /**
   * Yields what happens in a tenant, or for "" in all. A follower whose connection breaks comes back and goes on after the
   * last event; what the daemon no longer has by then is an event of type "gap". It ends with its signal.
   */
  async *events(tenant: string, options: EventOptions = {}): AsyncGenerator<Schemas["Event"], void, undefined> {
    const { follow = false, signal } = options;
    let since = options.since ?? 0;
    let begun = false;
    for (let delay = 100; ; delay = Math.min(2 * delay, 5000)) {
      try {
        for await (const { id, event, data } of messages(await this.#events(tenant, since, follow, signal))) {
          if (event === "error") throw asError(JSON.parse(data));
          [begun, since, delay] = [true, Number(id), 50];
          yield JSON.parse(data);
        }
        begun = true;
      } catch (error) {
        if (signal?.aborted) return;
        const why = failure(error, signal);
        if (!follow || !begun || !(why instanceof OcmtError) || why.class !== "unavailable") throw why;
      }
      if (!follow || signal?.aborted) return;
      await sleep(delay, undefined, { signal }).catch(() => {});
    }
  }

  async #events(tenant: string, since: number, follow: boolean, signal?: AbortSignal): Promise<ReadableStream<Uint8Array>> {
    const options = { signal: signal ?? null, parseAs: "stream" } as const;
    const query = { since, follow };
    return stream(tenant === ""
      ? await ok(this.api.GET("/v1/events", { params: { query }, ...options }))
      : await ok(this.api.GET("/v1/tenants/{tenant}/events", { params: { path: { tenant }, query }, ...options })));
  }

  /** Attaches as a host of that name which answers the methods ("host.emit", ...) with handle. */
  attach(tenant: string, name: string, methods: string[], handle: Handler): Promise<Host> {
    return attach(this.#socket, fill("/v1/tenants/{tenant}/host", { tenant }), { type: "attach", name, methods }, handle);
  }
}

/** Puts names into a path. A name is one segment, whatever is in it. */
function fill(path: string, names: Record<string, unknown>): string {
  return path.replaceAll(/\{(\w+)\}/g, (_, key: string) => {
    const name = String(names[key] ?? "");
    if (name === "" || name === "." || name === "..") { // URLs would resolve them, also when they are escaped
      throw new OcmtError({ class: "invalid_argument", code: "bad_name", message: `${key} cannot be ${JSON.stringify(name)}`, retryable: false });
    }
    return encodeURIComponent(name);
  });
}

function stream(body: unknown): ReadableStream<Uint8Array> {
  return body as ReadableStream<Uint8Array>;
}

/** Says why a stream failed. */
function failure(error: unknown, signal: AbortSignal | undefined): unknown {
  if (signal?.aborted) return signal.reason;
  return error instanceof OcmtError ? error : lost(error);
}
