const version = 1;
export function decodeUplink(input) {
  return { data: { n: input.bytes.length, version } };
}
export const encodeDownlink = (input) => ({ bytes: [input.data.n] });
export { version };
export default { decodeUplink, encodeDownlink };
