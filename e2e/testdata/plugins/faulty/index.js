// Does to its process what takes a host down that runs plugins in its own.
const nothing = { type: "object", properties: {} };
const forever = new Promise(() => {});
const tool = (name, description, execute) => ({ name, description, parameters: nothing, execute });

export const tools = [
  tool("fine", "Answers with the process's id and age.", async () => ({ pid: process.pid, uptime: process.uptime() })),
  tool("reject", "Leaves a rejection unhandled.", async () => {
    Promise.reject(new Error("nobody handles this"));
    return forever;
  }),
  tool("throw_in_timer", "Throws in a timer.", async () => {
    setTimeout(() => {
      throw new Error("thrown in a timer");
    }, 10);
    return forever;
  }),
  tool("exit_7", "Ends the process.", async () => process.exit(7)),
  tool("loop_8s", "Blocks the event loop for 8 s.", async () => {
    const end = Date.now() + 8000;
    while (Date.now() < end);
    return { looped: true };
  }),
  tool("eat_memory", "Allocates until the limit ends it.", async () => {
    const kept = [];
    for (;;) kept.push(Buffer.alloc(16 << 20, 1));
  }),
  tool("throws", "Throws an error of its own.", async () => {
    throw new TypeError("wrong on purpose");
  }),
];
