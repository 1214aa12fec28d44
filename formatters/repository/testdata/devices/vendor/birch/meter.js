function Decoder(bytes, port) {
  var n = 0;
  for (var i = 0; i < 4; i++) n = n * 256 + bytes[i];
  return { litres: n };
}
function decodeUplink(input) {
  var data = Decoder(input.bytes, input.fPort);
  return { data: data, warnings: data.litres === 0 ? ['no water yet'] : [] };
}
