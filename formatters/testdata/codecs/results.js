// Results of all kinds.
function decodeUplink(input) {
  var cycle = {};
  cycle.self = { back: cycle };
  var deep = {};
  for (var i = 0; i < 40; i++) deep = { deep: deep };
  var results = {
    1: { data: { u: undefined, n: null, f: function () {}, s: Symbol('x'), list: [undefined, function () {}, null] } },
    2: { data: { a: 1, b: { c: [0, NaN] } } },
    3: { data: { a: -1 / 0 } },
    4: { data: [21.5, { h: 40 }, [1]] },
    5: { data: { n: new Number(5), s: new String('x'), b: new Boolean(false), d: new Date(0), r: /x/g, m: new Map([[1, 2]]), e: new Error('x') } },
    6: { data: cycle },
    7: { data: deep },
    8: { data: { a: 1 }, warnings: ['low battery', 'old firmware'] },
    9: { data: { a: 1 }, errors: ['too short', 'no battery'] },
    10: { data: { a: 1 }, warnings: 'one text', errors: [] },
    11: { data: { a: 1 }, warnings: 5 },
    12: { data: 5 },
    13: undefined,
    14: { data: { toJSON: function () { return { replaced: this !== undefined }; } } },
    15: { data: { '': 1, 'a.b': 2, 'ü': 3, __proto__: { inherited: 1 }, constructor: 4, 10: 5, 2: 6 } },
    16: { data: Object.create({ inherited: 1 }, { hidden: { value: 1 }, shown: { value: 2, enumerable: true } }) },
    17: { data: { text: 'half \ud800 pair', zero: '\0', quote: '"' } },
    18: { data: { t: new Uint8Array([1, 2]), neg: -0, big: 1e300, int: 25.0, long: 0.1 + 0.2 } },
    19: { temperature: 21.5 },
    20: Promise.resolve({ data: { late: true } }),
    21: { data: { get a() { return 1; }, b: { c: {} }, d: [] } },
    22: { data: Object.assign(Object.create(null), { bare: 1 }) },
    23: { data: {} },
    24: { data: { n: 5n } },
  };
  if (input.fPort === 30) throw new TypeError('bad type');
  if (input.fPort === 31) throw 'a text';
  if (input.fPort === 32) throw { code: 7 };
  if (input.fPort === 33) return input.none.x;
  if (input.fPort === 34) return require('fs');
  if (input.fPort === 35) return new Promise(function () {});
  if (input.fPort === 36) return { data: input };
  return results[input.fPort];
}
