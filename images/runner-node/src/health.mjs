// What a running service says of itself.

import { cutBytes, describe } from "./errors.mjs";
import { MAX_REASON } from "./hookforms.mjs";
import { clearTimer, setTimer } from "./primordials.mjs";

/** The pause between two reports of one service, in ms: of many in between the last one counts. */
const PAUSE = 100;

export class Health {
  #publish;
  #state = { failed: false, reason: "" };
  #told = this.#state;
  #timer = null;
  #revoked = false;

  /** @param {(state: {failed: boolean, reason: string}) => void} publish */
  constructor(publish) {
    this.#publish = publish;
    /** What the service is given. */
    this.reporter = {
      reportFailure: (reason) => this.#set({ failed: true, reason: cutBytes(textOf(reason), MAX_REASON) }),
      clearFailure: () => this.#set({ failed: false, reason: "" }),
    };
  }

  /** repeat reports a failure again, to a host that may not know of it. */
  repeat() {
    if (!this.#revoked && this.#told.failed) this.#publish(this.#told);
  }

  /** revoke ends the reports: the service was stopped, or did not start. */
  revoke() {
    this.#revoked = true;
    if (this.#timer) clearTimer(this.#timer);
  }

  #set(state) {
    if (this.#revoked) return;
    this.#state = state;
    if (!this.#timer) this.#tell();
  }

  #tell() {
    this.#timer = null;
    const { failed, reason } = this.#state;
    if (failed === this.#told.failed && reason === this.#told.reason) return;
    this.#told = this.#state;
    this.#publish(this.#told);
    this.#timer = setTimer(() => this.#tell(), PAUSE);
  }
}

/** A reason is a text, an error, or an object with a reason. */
function textOf(reason) {
  if (typeof reason === "string") return reason;
  if (reason === undefined || reason === null) return "";
  return typeof reason.reason === "string" ? reason.reason : describe(reason).message;
}
