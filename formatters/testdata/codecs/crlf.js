// A byte order mark, lines that end in CR LF, and no line break at the end.
"use strict";
var scale = 10; /* a comment
 over lines */
function decodeUplink(input) {
  var undef = (function () { return this; })();
  return { data: { t: input.bytes[0] / scale, strict: undef === undefined } };
} // the end