import net from "node:net";
import { WebSocket } from "ws";
import { asError, lost, OcmtError, unreachable } from "./errors.ts";
import type { components } from "./schema.d.ts";

type HostMessage = components["schemas"]["HostMessage"];

/** The largest message, bytes. */
const maxMessage = 1 << 20;

/**
 * Answers a plugin's call of a host method with what it returns. It is called for notices too, whose result nobody gets.
 * The signal is aborted when the host is no longer attached.
 */
export type Handler = (message: HostMessage, signal: AbortSignal) => unknown;

/** An attached host. */
export interface Host {
  /** Settles when the host is no longer attached: rejects if it was the daemon that ended it. */
  readonly closed: Promise<void>;
  close(): void;
}

/** Attaches as a host; see Client.attach. */
export function attach(socket: string, path: string, hello: HostMessage, handle: Handler): Promise<Host> {
  const ws = new WebSocket(`ws://ocmt${path}`, {
    createConnection: (() => net.connect(socket)) as typeof net.createConnection,
    maxPayload: maxMessage,
    perMessageDeflate: false,
  });
  const gone = new AbortController();
  const closed = new Promise<void>((resolve, reject) => {
    ws.on("close", (code, reason) => {
      gone.abort();
      if (code === 1000 || code === 1005) resolve();
      else reject(closeError(code, reason.toString()));
    });
  });
  closed.catch(() => {}); // whoever waits for it is told
  return new Promise((resolve, reject) => {
    closed.then(() => reject(lost("closed")), reject);
    ws.on("error", (error) => reject(unreachable(socket, error)));
    ws.on("unexpected-response", (_, answer) => {
      let text = "";
      answer.setEncoding("utf8").on("data", (part: string) => (text += part)).on("end", () => {
        reject(asError(parse(text)));
        ws.terminate();
      });
    });
    ws.on("open", () => ws.send(JSON.stringify(hello)));
    ws.on("message", (text) => {
      const message = parse(String(text)) as HostMessage | undefined;
      if (message?.type === "attached") resolve({ closed, close: () => ws.close(1000) });
      if (message?.type === "call" || message?.type === "notice") void answer(ws, message, handle, gone.signal);
    });
  });
}

async function answer(ws: WebSocket, message: HostMessage, handle: Handler, signal: AbortSignal): Promise<void> {
  let reply: HostMessage = { type: "answer", id: message.id };
  try {
    reply.result = (await handle(message, signal)) ?? null;
  } catch (error) {
    reply = { ...reply, error: wire(error) };
  }
  if (message.type !== "call" || ws.readyState !== WebSocket.OPEN) return;
  let text = JSON.stringify(reply);
  if (Buffer.byteLength(text) > maxMessage) {
    text = JSON.stringify({ type: "answer", id: message.id, error: wire(new RangeError("the host's answer is too large")) });
  }
  ws.send(text);
}

/** Says an error as the API does. */
function wire(error: unknown): components["schemas"]["Error"] {
  if (error instanceof OcmtError) {
    return { class: error.class, code: error.code, message: error.message, hint: error.hint, retryable: error.retryable };
  }
  return { class: "internal", code: "host_failed", message: error instanceof Error ? error.message : String(error), retryable: false };
}

/** Says why the daemon closed; the reason is "code: message". */
function closeError(status: number, reason: string): OcmtError {
  const [, code = "host_detached", message = reason || `closed with status ${status}`] = /^(\w+): (.*)$/s.exec(reason) ?? [];
  if (status === 1008) return new OcmtError({ class: "permission_denied", code, message, retryable: false });
  if (status === 1011) return new OcmtError({ class: "internal", code, message, retryable: false });
  return new OcmtError({ class: "unavailable", code, message, retryable: true });
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
