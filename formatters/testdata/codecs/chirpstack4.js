function decodeUplink(input) {
  return { data: { port: input.fPort, offset: input.variables.offset, received: input.recvTime } };
}
function encodeDownlink(input) {
  return { bytes: [input.fPort, input.data.led ? 1 : 0, parseInt(input.variables.offset)] };
}
