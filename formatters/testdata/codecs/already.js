function decodeUplink(input) {
  return { data: { air: { temperature: input.bytes[0] - 100, co2: 400 }, battery: 3.1 } };
}
