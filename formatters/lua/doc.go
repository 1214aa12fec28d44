// Package lua runs payload formatters that are written in Lua 5.1. Their functions are those of the LoRa Alliance's payload codec API (TS013), with Lua's tables.
//
//	function decodeUplink(input)
//	  -- input.bytes {1-based list of 0..255}, .payload (the same as a string), .fPort,
//	  -- .recvTime (seconds since 1970, with a fraction), .recvTimeISO, .variables (the attributes of the device),
//	  -- .fCnt (also .f_cnt), .rssi and .snr (nil if not known), .device {ids, attributes, version_ids}
//	  return {data = {temperature = bytes.i16be(input.bytes, 1) / 10}, warnings = {}, errors = {}}
//	end
//	function normalizeUplink(input)  -- optional; input.data is what decodeUplink gave
//	  return {data = {air = {temperature = input.data.temperature}}}  -- or a list of such tables
//	end
//	function encodeDownlink(input)   -- input.data, .fPort (0 if the caller named none), .variables, .device
//	  return {bytes = {1, 2}, fPort = 10, warnings = {}, errors = {}}  -- bytes may be a string
//	end
//	function decodeDownlink(input)   -- as decodeUplink
//
// error("text") is the same as errors = {"text"}: the call fails. data must be a table. A table becomes a JSON array if its keys are exactly 1 to n,
// and an object with sorted keys otherwise; {} is an object. json.array(t) and json.object(t) decide it. null is json.null, in input.data too,
// where it is true in a condition. Numbers are float64; NaN and infinity become null with a warning. Bytes of a downlink are cut to 8 bits.
//
// Libraries: string (with pack, unpack and packsize of Lua 5.3), table, math, bit32 (also as bit), bytes, hex, base64, json, cayennelpp,
// log.info and log.warn (for tests on a bench; here they go nowhere, as print), os.time and os.date in UTC. Nothing reaches files, the network, or other code.
// Of later versions there are goto, the escape \x41, and table.pack and table.unpack; operators such as & and // are refused with a hint.
// Tail calls count against the call depth.
//
// Scripts are not trusted. Time, steps, memory, string lengths, depth and output are limited (see run.go), by errors that a script can't catch.
// Nothing is left of one call in the next. What no such limit can hold back is for the process around it, which is killed at a deadline.
package lua
