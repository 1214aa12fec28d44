function decodeUplink({ bytes, fPort }) {
  let n = 0n;
  for (const b of bytes) n = (n << 8n) | BigInt(b);
  if (fPort === 1) return { data: { text: n.toString(), hex: n.toString(16), number: Number(n & 0xffffffn), signed: BigInt.asIntN(64, n).toString() } };
  if (fPort === 2) return { data: { serial: `${n / 1000n}.${n % 1000n}`, bigger: n > 5n, power: String(2n ** 70n) } };
  return { data: { n } };
}
