export default "inside";
