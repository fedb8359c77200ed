// The register(api) form, as CommonJS: the export is the function itself.
module.exports = function register(api) {
  api.registerTool({
    name: "count",
    description: "Counts its calls in a file of the state directory.",
    parameters: { type: "object", properties: {} },
    execute: async () => {
      const fs = require("node:fs");
      const file = `${process.env.HOME}/count`;
      const n = (fs.existsSync(file) ? Number(fs.readFileSync(file, "utf8")) : 0) + 1;
      fs.writeFileSync(file, String(n));
      return { n };
    },
  });
};
