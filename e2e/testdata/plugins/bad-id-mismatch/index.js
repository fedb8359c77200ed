export default { id: "export-id", register(api) {} };
