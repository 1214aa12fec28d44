// Strings as codecs take them apart and put them together.
const ports = {
  1: (b) => String.fromCharCode(...b),
  2: (b) => b.map((x) => x.toString(16).padStart(2, '0').toUpperCase()).join(':'),
  3: (b) => decodeURIComponent(escape(String.fromCharCode.apply(null, b))),
  4: (b) => new TextDecoder('utf-8').decode(new Uint8Array(b)),
  5: (b) => Array.from(new TextEncoder().encode('°C ' + b.length)),
  6: (b) => [atob('AQL/').charCodeAt(2), btoa(String.fromCharCode(...b)), btoa('')],
  7: (b) => ({ at: 'abc'.at(-1), pad: '7'.padEnd(3, '.'), trim: ' x\t'.trim(), ends: 'abc'.endsWith('c'), rep: 'ab'.repeat(2), all: 'a-b-c'.replaceAll('-', ''), inc: 'abc'.includes('b'), cp: '😀'.codePointAt(0), split: 'a,b,,c'.split(','), sub: 'hello'.substr(-3, 2) }),
  8: (b) => `${b.length} bytes: ${b.map((x) => `<${x}>`).join``}`,
  9: (b) => ((strings, ...values) => strings.raw.join('|') + values.join('+'))`a${b[0]}\n${b[1]}c`,
  10: (b) => ['ä'.localeCompare('b') < 0, 'ÄÖ'.toLowerCase(), 'ß'.toUpperCase(), 'e\u0301'.normalize('NFC').length, [...'a😀b'].length, 'a😀'.length],
  11: (b) => parseInt(b.map((x) => ('0' + x.toString(16)).slice(-2)).join(''), 16),
  12: (b) => JSON.parse(String.fromCharCode(...b)),
  13: (b) => '\u{1F600}\x41\u2028"\\/\b\f\n\r\t\0',
  14: (b) => encodeURIComponent('a b&ü') + unescape('%u0107%E9') + encodeURI('a b/ü'),
};

const decodeUplink = (input) => ({ data: { v: ports[input.fPort](input.bytes) } });
