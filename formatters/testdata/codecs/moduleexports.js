const scale = 10;
class Codec {
  scale = scale;
  decodeUplink(input) {
    return { data: { t: input.bytes[0] / this.scale } };
  }
  static describe() {
    return 'codec';
  }
}
if (typeof module !== 'undefined' && module.exports) {
  module.exports = new Codec();
}
