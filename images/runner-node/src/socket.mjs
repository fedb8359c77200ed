// The socket of the bus. Its methods are those that Node had when the runner
// started, whatever a plugin makes of node:net, streams and events since.

import { Socket } from "node:net";
import { apply, construct, create, defineProperty, getOwnPropertyDescriptor, getPrototypeOf, ownKeys } from "./primordials.mjs";

const { connect, write } = Socket.prototype;

/** The options that Node would otherwise look for in the prototype of all objects. */
const UNSET = Object.fromEntries([
  "fd", "handle", "signal", "onread", "allowHalfOpen", "pauseOnCreate", "readable", "writable", "read", "write", "writev", "final", "destroy", "construct",
  "highWaterMark", "readableHighWaterMark", "writableHighWaterMark", "objectMode", "readableObjectMode", "writableObjectMode",
  "encoding", "defaultEncoding", "decodeStrings", "emitClose", "captureRejections", "timeout", "host", "port", "lookup", "family", "hints",
  "localAddress", "localPort", "noDelay", "keepAlive", "blockList",
].map((name) => [name, undefined]));

/** What sockets inherit, in one object. */
const METHODS = create(Socket.prototype);
for (let prototype = Socket.prototype; prototype !== Object.prototype; prototype = getPrototypeOf(prototype)) {
  for (const name of ownKeys(prototype)) {
    if (!Object.hasOwn(METHODS, name)) defineProperty(METHODS, name, getOwnPropertyDescriptor(prototype, name));
  }
}

function BusSocket() {}
BusSocket.prototype = METHODS;

/**
 * dial connects to a unix socket.
 * @param {string} path
 * @returns {Socket}
 */
export function dial(path) {
  const options = { __proto__: null, ...UNSET, path };
  const socket = construct(Socket, [options], BusSocket);
  apply(connect, socket, [options]);
  defineProperty(socket, "write", { __proto__: null, value: write, writable: true, configurable: true }); // connect takes the one of the prototype
  return socket;
}
