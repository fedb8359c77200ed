// Answers to the host's calls.

import { RunnerError, wireError } from "./errors.mjs";
import { jsonStringify, objectKeys, ownJSON } from "./primordials.mjs";

/**
 * withJSON is the text of a message, some of whose fields are JSON already.
 * @param {Record<string, string>} head the others, at least one
 * @param {Record<string, string | undefined>} fields those that are undefined are left out
 */
export function withJSON(head, fields) {
  let text = "";
  let names = objectKeys(head);
  for (let i = 0; i < names.length; i++) text += `${i === 0 ? "{" : ","}"${names[i]}":${jsonStringify(head[names[i]])}`;
  names = objectKeys(fields);
  for (let i = 0; i < names.length; i++) {
    const json = fields[names[i]];
    if (json !== undefined) text += `,"${names[i]}":${json}`;
  }
  return `${text}}`;
}

/**
 * answer sends an answer; one that is too large for the bus, or that cannot
 * be made, becomes an error.
 * @param {import("./nats.mjs").Reply} reply
 * @param {{type: string, id: string}} head
 * @param {() => Record<string, string | undefined>} fields makes the other fields, as JSON
 * @returns {boolean} whether it was sent as it is
 */
export function answer(reply, head, fields) {
  let text;
  try {
    text = withJSON(head, fields());
  } catch (error) {
    answerError(reply, head, error);
    return false;
  }
  try {
    reply.send(text);
    return true;
  } catch (error) {
    answerError(reply, head, new RunnerError("unserialised", `the result is too large: ${error.message}`));
    return false;
  }
}

/**
 * answerError sends an error as the answer.
 * @param {import("./nats.mjs").Reply} reply
 * @param {{type: string, id: string}} head
 * @param {unknown} error
 */
export function answerError(reply, head, error) {
  reply.send(ownJSON({ ...head, error: wireError(error) }));
}
