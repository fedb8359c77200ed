// Describes itself in what terminals and browsers take for orders.
const evil = "\u001b[2J\u001b]0;owned\u0007\u001b]52;c;ZXZpbA==\u0007\r\nocmt: all is well\n\u009b31m\u202etxt.\u2066\u2028\u0000<img src=x onerror=alert(1)>";
const parameters = { type: "object", properties: { [evil]: { type: "string", description: evil } }, description: evil };

export default {
  id: "hostile-output-names",
  name: evil,
  description: evil,
  register(api) {
    api.registerTool({ name: "attack", label: evil, description: evil, parameters, execute: async () => ({ named: "all" }) });
    for (const event of ["message_received", `x:${evil}`, "nothing\u001b[2J"]) api.on(event, () => {}, { name: evil, description: evil });
    api.registerService({ id: evil, start() { throw new Error(evil); }, stop() {} });
    api.registerCommand?.({ name: evil, description: evil, handler() {} });
    api.registerGatewayMethod?.(evil, () => {});
    api.logger.error(evil);
  },
};
