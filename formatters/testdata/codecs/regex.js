const text = (bytes) => String.fromCharCode(...bytes);
const ports = {
  1: (s) => ({ ...s.match(/^(?<name>[A-Z]+)=(?<value>-?\d+(?:\.\d+)?)$/).groups }),
  2: (s) => s.match(/(?<=T)-?\d+/)[0],
  3: (s) => [...s.matchAll(/([a-z])(\d+)/g)].map((m) => [m[1], Number(m[2]), m.index]),
  4: (s) => s.replace(/(\d+)-(\d+)/, '$2-$1').replace(/\s+/g, (m, at) => `[${m.length}@${at}]`),
  5: (s) => {
    const sticky = /\d{2}/y;
    const out = [];
    let m;
    while ((m = sticky.exec(s))) out.push([m[0], sticky.lastIndex]);
    return out;
  },
  6: (s) => [/\u{1F600}/u.test('😀'), /^.$/su.test('\n'), /(.)\1/.test(s), /a(?!b)/.test('ac'), /(?<!a)b/.test('ab')],
  7: (s) => s.split(/[,;]\s*/),
  8: (s) => /^([0-9a-f]{2})+$/i.test(s) && s.match(/../g).map((h) => parseInt(h, 16)),
  9: (s) => s.search(/\d/) + ' ' + RegExp('^' + s.charAt(0)).source + ' ' + String(/a\/b/gi) + ' ' + /x*?/.exec('xx')[0].length,
  10: (s) => 'camelCaseName'.replace(/[A-Z]/g, (c) => '_' + c.toLowerCase()) + 'snake_case'.replace(/_(.)/g, (_, c) => c.toUpperCase()),
};

function decodeUplink(input) {
  return { data: { v: ports[input.fPort](text(input.bytes)) } };
}
