#!/usr/bin/env node
// ES2015 to ES2022.
class Reader {
  #bytes;
  #at = 0;
  static made = 0;
  static {
    Reader.unit = 'V';
  }
  constructor(bytes) {
    this.#bytes = bytes;
    Reader.made++;
  }
  #take(n) {
    const out = this.#bytes.slice(this.#at, this.#at + n);
    this.#at += n;
    return out;
  }
  uint(n) {
    return this.#take(n).reduce((a, b) => a * 256 + b, 0);
  }
  get left() {
    return this.#bytes.length - this.#at;
  }
  static is(o) {
    return #bytes in o;
  }
  *[Symbol.iterator]() {
    while (this.left) yield this.uint(1);
  }
}

class Signed extends Reader {
  int(n) {
    const v = super.uint(n);
    return v >= 2 ** (n * 8 - 1) ? v - 2 ** (n * 8) : v;
  }
  get [Symbol.toStringTag]() {
    return 'Signed';
  }
}

const ports = {
  1: (b) => {
    const r = new Signed(b);
    return { t: r.int(2) / 10, left: r.left, rest: [...r], made: Reader.made, unit: Reader.unit, is: [Reader.is(r), Reader.is({})], tag: String(r), proto: r instanceof Reader };
  },
  2: ([first, , third = 7, ...rest]) => ({ first, third, rest }),
  3: (b) => {
    const config = { limits: { low: 0 }, name: null };
    config.name ??= 'none';
    config.limits.low ||= 5;
    config.limits.high &&= 1;
    return { low: config?.limits?.low, none: config.none?.deep?.er ?? 'missing', call: config.run?.(), name: config.name, high: 'high' in config.limits };
  },
  4: (b) => {
    const { a, ...others } = { a: 1, b: 2, c: { d: 3 } };
    const { c: { d = 5, e = 6 } = {} } = others;
    return { others, d, e, merged: { ...others, a: b[0], ...(b.length > 1 && { more: true }) } };
  },
  5: (b) => {
    function* pairs(list) {
      for (let i = 0; i + 1 < list.length; i += 2) {
        const stop = yield [list[i], list[i + 1]];
        if (stop) return 'stopped';
      }
    }
    const g = pairs(b);
    return [g.next().value, g.next(true), [...pairs(b)].length, Object.fromEntries(pairs(b))];
  },
  6: (b) => {
    const seen = new Map(b.map((x, i) => [x, i]));
    const weak = new WeakMap([[b, 'kept']]);
    return { size: seen.size, keys: [...seen.keys()], set: [...new Set(b)].length, weak: weak.get(b), has: new WeakSet([seen]).has(seen), map: seen };
  },
  7: (b) => {
    const log = [];
    const p = new Proxy({ x: b[0] }, {
      get: (o, k) => (k in o ? o[k] : `no ${String(k)}`),
      has: () => true,
      set: (o, k, v) => (log.push(k), Reflect.set(o, k, v)),
    });
    p.y = 1;
    return { x: p.x, z: p.z, in: 'q' in p, log, own: Reflect.ownKeys(p) };
  },
  8: (b) => {
    const id = Symbol('id');
    const o = { [id]: 1, ['k' + b[0]]: 2, get twice() { return this.n * 2; }, set half(v) { this.n = v / 2; }, n: 1, method() { return this.n; } };
    o.half = 10;
    return { o, s: o[id], text: id.description, twice: o.twice, m: o.method(), symbol: id, undefined: undefined };
  },
  9: (b) => [[1, [2, [3, [4]]]].flat(2), [1, 2].flatMap((x) => [x, x * 10]), [5, 1, 10].sort(), [3, 1, 2].sort((x, y) => y - x), Array.from({ length: 3 }, (_, i) => i * i), Array.of(7).fill(0), [1, 2, 3].findLast?.((x) => x < 3), [1, 2, 3].includes(NaN), Object.entries({ a: 1 }), [..."ab"].entries().next().value],
  10: (b) => {
    outer: for (let i = 0; i < 5; i++) {
      for (let j = 0; ; j++) {
        if (j === 3) continue outer;
        if (i === 2) break outer;
        if (i * j === 2) return { i, j };
      }
    }
    return [() => 1, async () => 1].map((f) => f.constructor.name);
  },
  11: (b) => [0b101, 0o17, 0xff, 1_000_000, .5, 5., 1e3, 2 ** 3 ** 2, (-2) ** 2, 7 % -3, -7 % 3, 0.1 + 0.2, 5 / 2 | 0, ~~-2.7, Math.trunc(-0.5), Math.sign(-3), Math.hypot(3, 4), Math.log2(8), Math.cbrt(27), Math.fround(5.05), Math.clz32(1), Math.imul(0xffffffff, 5)],
  12: (b) => {
    const counters = [];
    for (let i = 0; i < 3; i++) counters.push(() => i++);
    var varied = [];
    for (var v = 0; v < 3; v++) varied.push(function () { return v; });
    return [counters.map((f) => f() + f()), varied.map((f) => f())];
  },
  13: (b) => {
    try {
      null.x;
    } catch {
      try {
        throw new RangeError('low', { cause: 'battery' });
      } catch ({ name, message, cause }) {
        return [name, message, cause];
      } finally {
        b.push(1);
      }
    }
  },
  14: (b) => [Object.hasOwn({ a: 1 }, 'a'), structuredClone({ a: [1, { b: 2 }] }), Number.isInteger(5.0), Number.MAX_SAFE_INTEGER, Number.EPSILON > 0, Object.is(-0, 0), typeof globalThis, Array.isArray(b), new Intl.NumberFormat('en-US').format(12345.678)],
};

function decodeUplink(input) {
  return { data: { v: ports[input.fPort](input.bytes) } };
}
