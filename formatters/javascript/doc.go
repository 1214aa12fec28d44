// Package javascript runs payload formatters that are written in JavaScript, as The Things Stack, ChirpStack and the LoRa Alliance's TS013 know them.
//
// A script is compiled once; every call has a fresh interpreter, so nothing is left from one call to the next. The interpreter is goja, as in The
// Things Stack, in sloppy mode. What a script can call beyond the language:
//
//   - console: its methods do nothing, since scripts print payloads and those never reach a log;
//   - atob, btoa;
//   - Buffer: the parts of Node's class that codecs use (buffer.js), present only if the source names it;
//   - module and exports, for scripts that were written as modules.
//
// The first of these that the script defines, as a global or as a member of driver, exports or module.exports, is called:
//
//	decodeUplink(input) | Decode(fPort, bytes, variables) | Decoder(bytes, fPort)
//	encodeDownlink(input) | Encode(fPort, object, variables) | Encoder(object, fPort)
//	decodeDownlink(input)
//
// input has bytes (a plain array), fPort, recvTime (a Date) and variables (empty), or data, fPort and variables. normalizeUplink({data}) is called after a
// decoded uplink if the script defines it. Async functions may be used as far as they need no timer.
//
// The result is turned to JSON inside the interpreter, as JSON.stringify does it: key order is kept, undefined members are left out, a Date is an ISO string,
// and a number that is not finite becomes null, with a warning.
//
// An interpreter can't be stopped inside a built-in, and a script can exhaust the memory or the stack of the process. Run strangers' scripts through package
// formatters, which does so in a process of its own.
package javascript
