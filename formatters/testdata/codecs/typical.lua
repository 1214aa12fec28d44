function decodeUplink(input)
  if input.fPort ~= 1 then error("unknown port " .. input.fPort, 0) end
  local t, h = string.unpack(">i2B", input.payload)
  return {
    data = { temperature = t / 100, humidity = h, rssi = input.rssi, offset = input.variables.offset, brand = input.device.version_ids.brand_id, count = input.fCnt },
    warnings = h > 90 and { "damp" } or {},
  }
end
function normalizeUplink(input)
  return { data = { air = { temperature = input.data.temperature, relativeHumidity = input.data.humidity } } }
end
function encodeDownlink(input)
  return { bytes = { input.data.on and 1 or 0, tonumber(input.variables.offset or "0") }, fPort = 10 }
end
function decodeDownlink(input)
  return { data = { on = input.bytes[1] == 1 } }
end
