export default async function register(api) {}
