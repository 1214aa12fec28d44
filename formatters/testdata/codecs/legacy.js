function Decoder(bytes, port) {
  var decoded = {};
  if (port === 1) decoded.temperature = (bytes[0] << 8 | bytes[1]) / 100;
  return decoded;
}
function Encoder(object, port) {
  var bytes = [];
  if (port === 1) bytes[0] = object.led ? 1 : 0;
  return bytes;
}
