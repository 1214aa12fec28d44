function Decode(fPort, bytes, variables) {
  return { port: fPort, n: bytes.length, offset: Number(variables.offset || 0) + bytes[0], keys: Object.keys(variables) };
}
function Encode(fPort, obj, variables) {
  return [fPort, obj.led ? 1 : 0, Number(variables.offset || 0)];
}
