-- Makes vectors.jsonl with an independent implementation: lua5.4 vectors.lua | awk '!seen[$0]++' > vectors.jsonl
-- Integers stay within 2^53 and patterns within what Lua 5.1 and 5.4 have in common.
math.randomseed(20261125)
local random = math.random

local function quote(s)
  return '"' .. s:gsub('[%c"\\\x7f-\xff]', function(c) return ("\\u%04x"):format(c:byte()) end) .. '"'
end
local function hexed(s) return '{"hex":"' .. s:gsub(".", function(c) return ("%02x"):format(c:byte()) end) .. '"}' end
local function json(v)
  if type(v) == "number" then
    if v ~= v or v == math.huge or v == -math.huge then return '{"number":"' .. tostring(v) .. '"}' end
    if math.type(v) == "integer" then return ("%d"):format(v) end
    return ("%.17g"):format(v)
  elseif type(v) == "string" then return hexed(v)
  elseif v == nil then return "null" end
  return tostring(v)
end
local function list(t, n)
  local out = {}
  for i = 1, n or #t do out[i] = json(t[i]) end
  return "[" .. table.concat(out, ",") .. "]"
end
local function bytes(n)
  local out = {}
  for i = 1, n do out[i] = string.char(random(0, 255)) end
  return table.concat(out)
end
-- Each line is a call and either its results or that it fails.
local function vector(f, ...)
  local args = table.pack(...)
  local lib, name = f:match("(.+)%.(.+)")
  local got = table.pack(pcall(_G[lib][name], ...))
  if got[1] then
    print(('{"call":"%s","args":%s,"results":%s}'):format(f, list(args, args.n), list({table.unpack(got, 2, got.n)}, got.n - 1)))
  else
    print(('{"call":"%s","args":%s,"fails":true}'):format(f, list(args, args.n)))
  end
end

local function pick(t) return t[random(#t)] end

local integers = {b = 8, h = 16, i1 = 8, i2 = 16, i3 = 24, i4 = 32, i5 = 40, i6 = 48, i7 = 54, i8 = 54, l = 54, j = 54, i9 = 54, i16 = 54}
local unsigned = {B = 8, H = 16, I1 = 8, I2 = 16, I3 = 24, I4 = 32, I5 = 40, I6 = 48, I8 = 53, L = 53, J = 53, T = 53, I11 = 53, I16 = 53}
local function keys(t) local out = {} for k in pairs(t) do out[#out + 1] = k end table.sort(out) return out end
local signedKeys, unsignedKeys = keys(integers), keys(unsigned)
local function one()
  local kind = random(10)
  if kind <= 3 then
    local k = pick(signedKeys)
    local n = integers[k] - 1
    return k, random(-(1 << n), (1 << n) - 1)
  elseif kind <= 6 then
    local k = pick(unsignedKeys)
    return k, random(0, (1 << unsigned[k]) - 1)
  elseif kind == 7 then return pick({"f"}), pick({0.0, 1.5, -2.25, 1e30, 3.0e-5, 100.125})
  elseif kind == 8 then return pick({"d", "n"}), (random() - 0.5) * 10 ^ random(-20, 20)
  elseif kind == 9 then return pick({"z", "s1", "s2", "s", "c9"}), (bytes(random(0, 9)):gsub("%z", "x"))
  end
  return pick({"<", ">", "=", "!", "!2", "!4", "!8", " ", "x", "Xi4", "Xd", "Xh"}), nil
end
for i = 1, 150 do
  local format, args = pick({"", "<", ">", "!", ">!4", "<!8"}), {}
  for j = 1, random(1, 5) do
    local f, v = one()
    format = format .. f
    args[#args + 1] = v
  end
  vector("string.pack", format, table.unpack(args))
  local ok, s = pcall(string.pack, format, table.unpack(args))
  if ok then
    vector("string.unpack", format, s)
    if random(4) == 1 then vector("string.unpack", format, s:sub(1, random(0, #s))) end
  end
  vector("string.packsize", format)
end
for _, v in ipairs({
  {"string.pack", "b", 128}, {"string.pack", "b", -129}, {"string.pack", "B", 256}, {"string.pack", "B", -1}, {"string.pack", "h", 32768},
  {"string.pack", "i3", 8388608}, {"string.pack", "i3", -8388608}, {"string.pack", "I2", 1.5}, {"string.pack", "I2", 3.0}, {"string.pack", "c2", "abc"},
  {"string.pack", "c4", "abc"}, {"string.pack", "z", "a\0b"}, {"string.pack", "s1", ("x"):rep(256)}, {"string.pack", "i17", 1}, {"string.pack", "i0", 1},
  {"string.pack", "y", 1}, {"string.pack", "c", "a"}, {"string.pack", "!3i4", 1}, {"string.pack", "!4i3", 1}, {"string.pack", "X"}, {"string.pack", "Xz"}, {"string.pack", "f", "x"},
  {"string.pack", "b"}, {"string.unpack", "b", ""}, {"string.unpack", "z", "abc"}, {"string.unpack", "s1", "\5abc"}, {"string.unpack", "b", "ab", 3},
  {"string.unpack", "b", "ab", 2}, {"string.unpack", "b", "ab", -1}, {"string.unpack", "b", "ab", -9}, {"string.unpack", "b", "ab", 4}, {"string.unpack", "", "ab", 3},
  {"string.unpack", ">i8", ("\xff"):rep(8)}, {"string.unpack", "<i16", ("\xff"):rep(16)}, {"string.unpack", "<i16", "\1" .. ("\0"):rep(15)},
  {"string.unpack", "<i16", ("\xff"):rep(8) .. ("\0"):rep(8)}, {"string.unpack", "<i9", ("\0"):rep(8) .. "\1"}, {"string.unpack", "f", "\0\0\x80\x7f"}, {"string.unpack", "d", ("\0"):rep(6) .. "\xf8\x7f"},
  {"string.packsize", "s"}, {"string.packsize", "z"}, {"string.packsize", "!8bd"}, {"string.packsize", "c100b"}, {"string.packsize", ""},
}) do vector(table.unpack(v)) end

local items = {"a", "b", "%a", "%d", "%s", "%w", "%l", "%u", "%p", "%x", "%c", ".", "[ab]", "[^ab]", "[a-c]", "[%d%s]", "[]]", "[^]a]", "[a-]", "%.", "%%", "%A", "%D", "%W", "%S", "x", "%f[%w]", "%f[^%w]", "%b()", "%bab", "[%a_]", "[%-x]"}
local function randomPattern()
  local out, open = {}, 0
  if random(6) == 1 then out[1] = "^" end
  for i = 1, random(1, 5) do
    if random(5) == 1 then out[#out + 1] = "(" open = open + 1 end
    if random(12) == 1 then out[#out + 1] = "()" end
    out[#out + 1] = pick(items) .. pick({"", "", "", "*", "+", "-", "?"})
    if open > 0 and random(3) == 1 then out[#out + 1] = ")" open = open - 1 end
    if random(12) == 1 then out[#out + 1] = "%" .. random(1, 2) end
  end
  if random(15) ~= 1 then out[#out + 1] = (")"):rep(open) end
  if random(8) == 1 then out[#out + 1] = "$" end
  if random(25) == 1 then out[#out + 1] = pick({"%", "[", "[^", "[%", "%b", "%f", ")"}) end
  return table.concat(out)
end
local function subject()
  local out = {}
  for i = 1, random(0, 12) do out[i] = pick({"a", "b", "c", "A", "1", "2", " ", ".", "-", "_", "(", ")", "x", "\n", "\xe9", "]", "%"}) end
  return table.concat(out)
end
for i = 1, 450 do
  local s, p = subject(), randomPattern()
  vector("string.find", s, p)
  if i % 3 == 0 then vector("string.match", s, p, random(-3, #s + 1)) end
end
for _, v in ipairs({
  {"hello world", "o", "0"}, {"hello", "l+", "<%0>"}, {"hello", "(l)(l)", "%2%1%%"}, {"abc", "%w", "%0%0", 2}, {"abc", "", "-"}, {"", "", "x"}, {"abc", "^a", "x"},
  {"aaa", "^a", "x"}, {"a.b", "%.", ","}, {"key=val", "(%w+)=(%w+)", "%2=%1"}, {"abc", "b", "%9"}, {"abc", "x*y", "-"}, {"THE (quick) fox", "%((%a+)%)", "[%1]"}, {"abc", "()", "%1"},
}) do vector("string.gsub", table.unpack(v)) end

local specs = {"d", "5d", "-5d", "05d", "+d", " d", "x", "X", "#x", "08x", "o", "c", "e", "E", ".3e", "f", ".2f", "10.3f", "-10.1f", "+.1f", "010.2f", "g", ".3g", "G", "#.3g", "i", "u", ".4d", "5.3d"}
local values = {0, 1, -1, 7, 42, 255, 65535, -300, 123456789, 1e15}
local floats = {0.5, -0.25, 3.14159265358979, 1e100, -1e-5, 123456.789, 1 / 3, 2.5, 100000, 1e6, 999999.5, 0.0001}
for _, spec in ipairs(specs) do
  local integral = spec:find("[dxXociu]$")
  for i = 1, 4 do
    local v = integral and math.tointeger(pick(values)) or pick(floats)
    if spec ~= "c" or v >= 0 and v < 256 then
      if spec ~= "u" then vector("string.format", "%" .. spec, v) end
    end
  end
end
for _, v in ipairs({
  {"%s %s", "a", "b"}, {"%5s|%-5s|", "ab", "cd"}, {"%.2s", "abc"}, {"%5.1s|", "abc"}, {"%%"}, {"%d%%", 5}, {"%s", 12}, {"%s", true}, {"%s"}, {"%d", "x"}, {"%y", 1}, {"%"}, {"%d", "12"},
  {"%f", 1 / 0}, {"%5.1f", -1 / 0}, {"%123d", 1}, {"%.123d", 1}, {"%q", 'a "b"\n\\c\0d'}, {"%q", "\0001"},
}) do vector("string.format", table.unpack(v)) end
for _, v in ipairs({{"10"}, {" 10 "}, {"1e3"}, {"1E+2"}, {"0x1F"}, {"-0x10"}, {""}, {" "}, {"1 2"}, {"abc"}, {"1e"}, {".5"}, {"5."}, {"0x"}, {"inf"}, {"nan"}, {"1_0"}, {"--1"}, {"+5"}, {"ff", 16}, {"-ff", 16}, {"zz", 36}, {"8", 8}, {"777", 8}, {"1010", 2}, {"", 10}, {"1.5"}, {"-1.5e-3"}}) do
  vector("_G.tonumber", table.unpack(v))
end
for _, v in ipairs({{"abc", 1, 2}, {"abc", -2}, {"abc", 0}, {"abc", 2, 1}, {"abc", -100, 100}, {"abc", 4}, {"abc", 1, -2}, {"abc", 3, 3}}) do
  vector("string.sub", table.unpack(v))
  vector("string.byte", table.unpack(v))
end
for _, v in ipairs({{"ab", 3}, {"ab", 0}, {"ab", -1}, {"ab", 2, ","}, {"", 5}, {"", 3, "x"}, {"ab", 1, ","}}) do vector("string.rep", table.unpack(v)) end
for _, v in ipairs({{"AbC\xe9"}, {""}}) do vector("string.upper", table.unpack(v)) vector("string.lower", table.unpack(v)) vector("string.reverse", table.unpack(v)) vector("string.len", table.unpack(v)) end
