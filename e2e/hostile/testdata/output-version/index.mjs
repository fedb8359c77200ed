// Its version is no version.
export const tools = [];
