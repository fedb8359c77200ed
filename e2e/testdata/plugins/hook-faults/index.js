// Handlers that answer in every wrong way, as the event asks: of a gate that
// fails closed, of one that fails open, and of an event that is observed.
const ENORMOUS = 5 * 1024 * 1024; // more than a message may hold

const ANSWERS = {
  nothing: () => undefined,
  text: () => "nonsense",
  list: () => [{ block: true }],
  shape: () => ({ params: "no object", content: 7, block: "perhaps" }),
  enormous: () => ({ params: { text: "x".repeat(ENORMOUS) }, content: "x".repeat(ENORMOUS) }),
  circular: () => {
    const params = {};
    params.self = params;
    return { params, content: params };
  },
  late: () => new Promise(() => {}),
  throws: () => {
    throw new TypeError("thrown by a hook");
  },
  rejects: async () => {
    throw "only text";
  },
  exit: () => process.exit(7),
};

const handler = ({ how = "nothing" }) => ANSWERS[how]();

module.exports = {
  id: "hook-faults",
  register(api) {
    for (const event of ["before_tool_call", "message_sending", "message_received"]) {
      api.on(event, handler, { timeoutMs: 4000 });
    }
  },
};
