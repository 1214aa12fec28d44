function decodeUplink(input) {
  var b = input.bytes;
  if (input.fPort !== 1) {
    return { errors: ['unknown port ' + input.fPort] };
  }
  var t = (b[0] << 8) | b[1];
  return {
    data: { temperature: (t > 0x7fff ? t - 0x10000 : t) / 10, humidity: b[2] / 2, motion: b[3] === 1, at: input.recvTime },
  };
}

function normalizeUplink(input) {
  return {
    data: {
      air: { temperature: input.data.temperature, relativeHumidity: input.data.humidity },
      action: { motion: { detected: input.data.motion } },
    },
  };
}

function encodeDownlink(input) {
  return { bytes: [input.data.interval >> 8, input.data.interval & 0xff], fPort: 2 };
}

function decodeDownlink(input) {
  return { data: { interval: (input.bytes[0] << 8) | input.bytes[1] } };
}
