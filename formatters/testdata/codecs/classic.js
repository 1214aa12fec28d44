// What codecs of the first years do: var, closures, prototypes, sloppy mode, functions in blocks.
var total = 0;
implicit = 5;

function Cursor(bytes) {
  if (!(this instanceof Cursor)) return new Cursor(bytes);
  this.bytes = bytes;
  this.i = 0;
}
Cursor.prototype.next = function () {
  return this.bytes[this.i++];
};
Cursor.prototype.done = function () {
  return this.i >= this.bytes.length;
};

if (!Array.prototype.sum) {
  Object.defineProperty(Array.prototype, 'sum', {
    value: function () {
      return this.reduce(function (a, b) { return a + b; }, 0);
    },
  });
}

if (typeof helper === 'undefined') {
  function helper(x) {
    return x * 2;
  }
}

var types = {
  0x01: { name: 'temperature', size: 2, scale: 10, signed: true },
  0x02: { name: 'humidity', size: 1, scale: 2 },
};

function decodeUplink(input) {
  var b = input.bytes, out = {}, cursor = Cursor(b);
  total += b.sum();
  switch (input.fPort) {
    case 1:
      while (!cursor.done()) {
        var type = types[cursor.next()];
        if (!type) break;
        var raw = 0;
        for (var n = 0; n < type.size; n++) raw = (raw << 8) | cursor.next();
        if (type.signed && raw & (1 << (type.size * 8 - 1))) raw -= 1 << (type.size * 8);
        out[type.name] = raw / type.scale;
      }
      break;
    case 2:
      out = { total: total, implicit: implicit++, helper: helper(b[0]), octal: 010, with: (function () { with ({ a: 5 }) { return a; } })(), args: (function () { return arguments.length + arguments[1]; })(1, 2), self: (function () { return this === globalThis; })() };
      break;
    case 3:
      var keys = [];
      for (var k in { z: 1, a: 2, 10: 3, 9: 4 }) keys.push(k);
      out = { keys: keys, del: delete out.none, comma: (1, 2), v: void 0, typ: [typeof null, typeof undefined, typeof b, typeof types.x, typeof function () {}], eq: [1 == '1', null == undefined, NaN != NaN, [] + {}, '5' * '2', '5' + 2] };
      break;
    case 4:
      out.list = [];
      out.list[3] = 'sparse';
      out.length = out.list.length;
      out.holes = [1, , 3];
      out.neg = -0;
      out.huge = 123456789012345680000;
      out.tiny = 1e-7;
      out.max = 9007199254740993;
      break;
    case 5:
      out.e = eval('b.length + 1');
      out.f = new Function('a', 'b', 'return a * b')(6, 7);
      out.call = Math.max.apply(null, b) + [].slice.call(arguments, 0).length;
      out.bound = helper.bind(null, 4)();
      out.num = [(25).toString(2), (255).toString(16), (1.005).toFixed(2), (0.1 + 0.2).toFixed(10), (1234.5678).toPrecision(6), (0.00001).toString(), (1e21).toString(), parseFloat('3.14abc'), parseInt('12px'), parseInt('0x1f'), Number(''), Number('12a') + '', +'  7 ', isNaN('x')];
      break;
    case 6:
      do {
        out.n = (out.n || 0) + 1;
      } while (out.n < 5);
      label: {
        if (out.n === 5) break label;
        out.n = 'not here';
      }
      out.late = late();
      function late() { return 'hoisted'; }
      break;
  }
  return { data: out };
}
