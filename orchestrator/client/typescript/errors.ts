import type { components } from "./schema.d.ts";

/** An error of the daemon, or of the way to it. */
export class OcmtError extends Error {
  /** The kind of error: "not_found", "permission_denied", "unavailable" and so on. */
  readonly class: string;
  /** Its stable name: "plugin_not_found". */
  readonly code: string;
  /** What to do next; may be empty. */
  readonly hint: string;
  /** The same request may well succeed soon. */
  readonly retryable: boolean;
  readonly details: unknown;

  constructor(e: components["schemas"]["Error"], cause?: unknown) {
    super(e.message, { cause });
    this.name = "OcmtError";
    this.class = e.class;
    this.code = e.code;
    this.hint = e.hint ?? "";
    this.retryable = e.retryable;
    this.details = e.details;
  }
}

/** Makes an OcmtError of what came as one, and of anything else one that says so. */
export function asError(value: unknown): OcmtError {
  const e = value as Partial<components["schemas"]["Error"]> | null | undefined;
  if (typeof e === "object" && e !== null && typeof e.code === "string" && typeof e.class === "string") {
    return new OcmtError({ retryable: false, ...e, class: e.class, code: e.code, message: String(e.message ?? e.code) });
  }
  return new OcmtError({ class: "unavailable", code: "no_daemon", message: "what answers on the socket is no ocmt daemon", retryable: false });
}

/** The connection ended in the middle of an answer. */
export function lost(cause: unknown): OcmtError {
  const message = `the daemon broke off: ${cause instanceof Error ? cause.message : String(cause)}`;
  return new OcmtError({ class: "unavailable", code: "daemon_lost", message, hint: "see whether `ocmt serve` still runs", retryable: false }, cause);
}

/** No answer came from the socket. */
export function unreachable(socket: string, cause: unknown): OcmtError {
  const why = cause instanceof Error && "code" in cause ? String(cause.code) : String(cause);
  const e = why === "EACCES" || why === "EPERM"
    ? { class: "permission_denied", code: "daemon_forbidden", hint: "run this as a user who may use the socket", retryable: false }
    : { class: "unavailable", code: "daemon_unreachable", hint: "start it with `ocmt serve`, or name another socket", retryable: true };
  return new OcmtError({ ...e, message: `cannot reach the daemon on ${socket}: ${why}` }, cause);
}
