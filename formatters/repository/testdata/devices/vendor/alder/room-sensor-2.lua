function decodeUplink(input)
  return { data = { temperature = bytes.i16be(input.bytes, 1) / 100 } }
end
