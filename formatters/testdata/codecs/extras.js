function decodeUplink(input) {
  const { rssi, snr, fCnt, device } = input;
  return { data: { rssi, snr, fCnt, again: input.f_cnt, keys: Object.keys(input), eui: device.ids.dev_eui, attributes: device.attributes, brand: device.version_ids.brand_id, calibrated: input.bytes[0] + Number(device.attributes.offset ?? 0) } };
}
