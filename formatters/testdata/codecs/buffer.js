// Node's Buffer, as codecs of ChirpStack and Actility use it.
const ports = {
  1: (b) => [b.readInt16BE(0), b.readInt16LE(0), b.readUInt16BE(0), b.readUint16LE(0), b.readInt8(0), b.readUInt8(1), b[0]],
  2: (b) => [b.readInt32BE(0), b.readUInt32LE(0), b.readFloatBE(0), b.readFloatLE(4), b.readDoubleBE(0), String(b.readBigUInt64BE(0)), String(b.readBigInt64LE(0))],
  3: (b) => [b.readUIntBE(0, 3), b.readIntLE(1, 3), b.readUIntLE(0, 6), b.readIntBE(2, 6)],
  4: (b) => [b.toString('hex'), b.toString('base64'), b.toString('ascii'), b.toString(), b.toString('utf8', 1, 2), JSON.stringify(b), b.length],
  5: (b) => [Buffer.from('0aff', 'hex')[1], Buffer.from('AQL/', 'base64').length, Buffer.from('é').toString('hex'), Buffer.from([257, -1])[0], Buffer.from(new Uint8Array([9]).buffer)[0], Buffer.alloc(2, 7).toString('hex'), Buffer.isBuffer(b), Buffer.concat([b, Buffer.from([1])]).length, Buffer.byteLength('é')],
  6: (b) => {
    const w = Buffer.alloc(12);
    let at = w.writeInt16BE(-2, 0);
    at = w.writeUInt32LE(0xdeadbeef, at);
    at = w.writeFloatBE(1.5, at);
    at = w.writeUInt8(255, at);
    return [at, w.toString('hex')];
  },
  7: (b) => {
    const part = b.slice(1, 3);
    part[0] = 99;
    return [b[1], part.length, b.subarray(-1)[0], b.indexOf(99), b.includes(99), b.equals(Buffer.from(b)), [...b.entries()].length, Buffer.compare(b, part)];
  },
  8: (b) => [b.swap16().toString('hex'), b.reverse()[0], Array.from(b.map((x) => x + 1)), b.fill(0).readUInt8(0), b.copy(Buffer.alloc(1)), b.write('hi', 1), b.toString('latin1')],
  9: (b) => b.readUInt32BE(b.length - 1),
  10: (b) => ['UInt', 'Int'].map((t) => b['read' + t + '16BE'](0)),
};

function decodeUplink(input) {
  return { data: { v: ports[input.fPort](Buffer.from(input.bytes)) } };
}
