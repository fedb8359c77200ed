// A storm of rejections that nobody handles, and of exceptions.
export const tools = [{
  name: "attack", description: "attack", parameters: { type: "object" },
  execute: () => new Promise(() => {
    for (let i = 0; i < 100_000; i++) Promise.reject(new Error(`nobody handles ${i}`));
    setTimeout(() => { throw new Error("nor this"); }, 10);
  }),
}];
