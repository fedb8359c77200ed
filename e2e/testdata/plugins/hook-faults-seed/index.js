// A gate of the document's form that leaves its payload in every wrong state.
class BlockError extends Error {}

const handler = (payload) => {
  switch (payload.how) {
    case "circular":
      payload.self = payload;
      break;
    case "enormous":
      payload.text = "x".repeat(5 * 1024 * 1024);
      break;
    case "bigint":
      payload.text = 1n;
      break;
    case "throws":
      throw new TypeError("thrown by a hook");
    case "block":
      throw new BlockError("not this one");
    case "returns":
      return { block: { reason: "nor this one" } };
  }
};

module.exports = { hooks: [{ event: "order:before", handler }] };
