(function (exports) {
  exports.decodeUplink = ({ bytes }) => ({ data: { n: bytes.length } });
  exports.encodeDownlink = ({ data }) => ({ bytes: [data.n] });
})(typeof exports === 'undefined' ? {} : exports);
