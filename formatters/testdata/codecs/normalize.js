function decodeUplink(input) {
  return { data: { t: input.bytes[0] / 10, h: input.bytes[1], kind: input.fPort } };
}
function normalizeUplink(input) {
  const { t, h, kind } = input.data;
  switch (kind) {
    case 1: return { data: { air: { temperature: t, relativeHumidity: h } } };
    case 2: return { data: [{ time: '2026-11-23T10:00:00Z', air: { temperature: t } }, { time: '2026-11-23T11:00:00Z', air: { temperature: t + 1 } }] };
    case 3: return { data: { air: { temperature: t, relativeHumidity: h + 100 } }, warnings: ['sensor is old'] };
    case 4: return { data: { air: { humidity: h } } };
    case 5: return { data: { air: { temperature: String(t) } } };
    case 6: return { data: { time: new Date(0), battery: 3, soil: { moisture: h }, position: { latitude: 52.1, longitude: 4.9 }, action: { contactState: 'open', motion: { count: 3 } }, water: { leak: true }, rain: { intensity: 1 } } };
    case 7: throw new Error('not normal');
    case 8: return {};
  }
}
