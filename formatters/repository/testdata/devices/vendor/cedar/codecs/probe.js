exports.decodeUplink = (input) => ({ data: { n: input.bytes.length } });
