function encodeDownlink(input) {
  var d = input.data;
  switch (d.cmd) {
    case 'wrap': return { bytes: [256, -1, 300.9, '5', 'x', null, undefined, true, NaN] };
    case 'port': return { bytes: [1], fPort: 300 };
    case 'own port': return { bytes: [1], fPort: 10 };
    case 'same port': return { bytes: [input.fPort] };
    case 'text': return { bytes: 'aé' };
    case 'typed': return { bytes: new Uint8Array([1, 255]) };
    case 'buffer': return { bytes: Buffer.from('01ff', 'hex') };
    case 'empty': return { bytes: [], warnings: ['nothing to send'] };
    case 'errors': return { errors: ['no such command'] };
    case 'throw': throw new Error('out of range: ' + d.value);
    case 'nothing': return undefined;
    case 'keys': return { bytes: Object.keys(d).join() };
    case 'float':
      var view = new DataView(new ArrayBuffer(4));
      view.setFloat32(0, d.value, true);
      return { bytes: Array.from(new Uint8Array(view.buffer)) };
    case 'number': return { bytes: 5 };
  }
}
function decodeDownlink(input) {
  return { data: { cmd: 'raw', hex: Buffer.from(input.bytes).toString('hex'), fPort: input.fPort } };
}
