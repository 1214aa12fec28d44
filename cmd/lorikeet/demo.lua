-- The payload of the demo's devices: channel, type and a temperature in tenths of a degree, big-endian.
function decodeUplink(input)
  local channel, kind, tenths = string.unpack(">BBi2", input.payload)
  local result = { data = { sensor = channel, temperature = tenths / 10 } }
  if tenths > 280 then
    result.warnings = { "it is getting warm" }
  end
  return result
end

-- {"led": "on"} or {"led": "off"}
function encodeDownlink(input)
  if input.data.led ~= "on" and input.data.led ~= "off" then
    return { errors = { 'led: use "on" or "off"' } }
  end
  return { bytes = { input.data.led == "on" and 1 or 0 }, fPort = 10 }
end

function decodeDownlink(input)
  return { data = { led = input.bytes[1] == 1 and "on" or "off" } }
end
