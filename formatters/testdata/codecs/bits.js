// Arithmetic of 8 to 64 bits without BigInt.
function signed(value, bits) {
  return value & (1 << (bits - 1)) ? value - Math.pow(2, bits) : value;
}

function float16(h) {
  var s = h & 0x8000 ? -1 : 1;
  var e = (h >> 10) & 0x1f;
  var f = h & 0x3ff;
  if (e === 0) return s * Math.pow(2, -14) * (f / 1024);
  if (e === 31) return f ? 'not a number' : s + ' infinite';
  return s * Math.pow(2, e - 15) * (1 + f / 1024);
}

function float32(bits) {
  var sign = bits >>> 31 === 0 ? 1 : -1;
  var e = (bits >>> 23) & 0xff;
  var m = e === 0 ? (bits & 0x7fffff) << 1 : (bits & 0x7fffff) | 0x800000;
  return sign * m * Math.pow(2, e - 150);
}

// Decimal text of an unsigned integer of any size.
function decimal(bytes) {
  var digits = [0];
  bytes.forEach(function (b) {
    var carry = b;
    for (var i = 0; i < digits.length; i++) {
      carry += digits[i] * 256;
      digits[i] = carry % 10;
      carry = Math.floor(carry / 10);
    }
    while (carry > 0) {
      digits.push(carry % 10);
      carry = Math.floor(carry / 10);
    }
  });
  return digits.reverse().join('');
}

function decodeUplink(input) {
  var b = input.bytes;
  switch (input.fPort) {
    case 1:
      return { data: { i8: (b[0] << 24) >> 24, i16: ((b[0] << 8) | b[1]) << 16 >> 16, i24: signed((b[0] << 16) | (b[1] << 8) | b[2], 24) } };
    case 2:
      return { data: { shifted: b[0] << 24 | b[1] << 16 | b[2] << 8 | b[3], unsigned: (b[0] << 24 | b[1] << 16 | b[2] << 8 | b[3]) >>> 0 } };
    case 3:
      return { data: { f16: float16((b[0] << 8) | b[1]) } };
    case 4:
      return { data: { f32: float32((b[0] << 24) | (b[1] << 16) | (b[2] << 8) | b[3]) } };
    case 5:
      var high = ((b[0] << 24) | (b[1] << 16) | (b[2] << 8) | b[3]) >>> 0;
      var low = ((b[4] << 24) | (b[5] << 16) | (b[6] << 8) | b[7]) >>> 0;
      return { data: { number: high * 0x100000000 + low, text: decimal(b) } };
    case 6:
      return { data: { nibbles: b.map(function (x) { return [x >> 4, x & 0xf]; }), flags: [0, 1, 2, 3, 4, 5, 6, 7].map(function (n) { return (b[0] & (1 << n)) !== 0; }) } };
    case 7:
      return { data: { bcd: b.reduce(function (n, x) { return n * 100 + (x >> 4) * 10 + (x & 15); }, 0), not: ~b[0], xor: b[0] ^ 0xff, and: b[0] & -8 } };
    case 8:
      var crc = b.slice(0, -2).reduce(function (c, x) {
        c ^= x << 8;
        for (var i = 0; i < 8; i++) c = c & 0x8000 ? (c << 1) ^ 0x1021 : c << 1;
        return c & 0xffff;
      }, 0xffff);
      return crc === ((b[b.length - 2] << 8) | b[b.length - 1]) ? { data: { crc: crc.toString(16) } } : { errors: ['CRC is ' + crc.toString(16)] };
    case 9:
      return { data: { big: 0xffffffffff, wrapped: 0xffffffffff | 0, shift: 1 << 32, over: 1 << 33, right: -1 >> 31, zero: -1 >>> 0 } };
    case 10:
      return { data: { bits: b.map(function (x) { return ('00000000' + x.toString(2)).substr(-8); }).join(''), hex: b.map(function (x) { return ('0' + (x & 0xff).toString(16)).slice(-2); }).join('') } };
  }
  throw new Error('unknown port');
}
