function decodeUplink(input) {
  console.log('payload', input.bytes);
  console.error(new Error('x'));
  console.table([1]);
  console.time('t');
  return { data: { n: input.bytes.length } };
}
