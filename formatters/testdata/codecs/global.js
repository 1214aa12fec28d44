(() => {
  let calls = 0;
  globalThis.decodeUplink = function (input) {
    return { data: { calls: ++calls, seen: globalThis.seen === undefined } };
  };
  globalThis.seen = undefined;
})();
var seen = seen || undefined;
