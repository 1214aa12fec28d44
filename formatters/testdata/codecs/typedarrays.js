// Numbers read through typed arrays and views.
const ports = {
  1: (b) => new DataView(new Uint8Array(b).buffer).getInt16(0),
  2: (b) => new DataView(new Uint8Array(b).buffer).getUint32(0, true),
  3: (b) => new DataView(Uint8Array.from(b).buffer).getFloat32(0),
  4: (b) => new DataView(Uint8Array.from(b).buffer).getFloat64(0, true),
  5: (b) => Array.from(new Int16Array(new Uint8Array(b).buffer)),
  6: (b) => Array.from(new Uint8ClampedArray([b[0] - 300, b[1] + 300, 1.5])),
  7: (b) => {
    const view = new DataView(new ArrayBuffer(8));
    view.setUint16(2, 0x1234);
    view.setInt8(7, -1);
    return Array.from(new Uint8Array(view.buffer));
  },
  8: (b) => Array.from(new Uint8Array(b).subarray(1, 3)).concat(Array.from(new Uint8Array(b).slice(-1))),
  9: (b) => {
    const f = new Float32Array(1);
    new Uint8Array(f.buffer).set(b);
    return Number(f[0].toFixed(3));
  },
  10: (b) => String(new DataView(new Uint8Array(b).buffer).getBigUint64(0)),
  11: (b) => [new Uint8Array(3), new Uint16Array([65537]), Float64Array.of(0.1)].map((a) => Object.prototype.toString.call(a) + a.join('|')),
  12: (b) => {
    const t = new Uint8Array(b);
    t.sort();
    return { max: Math.max(...t), min: Math.min.apply(null, t), joined: t.join('-'), at: t.indexOf(2), has: t.includes(9) };
  },
};

function decodeUplink(input) {
  return { data: { v: ports[input.fPort](input.bytes) } };
}
