const parse = async (bytes) => {
  await null;
  if (bytes.length === 0) throw new RangeError('empty');
  return bytes.map((b) => b * 2);
};
async function decodeUplink(input) {
  const [a, b] = await Promise.all([parse(input.bytes), Promise.resolve(5)]);
  const settled = await Promise.allSettled([Promise.reject(new Error('no')), 1]);
  return { data: { a, b, settled: settled.map((s) => s.status) } };
}
