// Package javascript runs payload formatters that are written in JavaScript, as The Things Stack, ChirpStack and the LoRa Alliance's TS013 know them.
//
// A script is compiled once; every call has a fresh interpreter, so nothing is left from one call to the next. The interpreter is goja, as in The
// Things Stack, in sloppy mode. What a script can call beyond the language:
//
//   - console: its methods do nothing, since scripts print payloads and those never reach a log;
//   - atob, btoa, TextDecoder, TextEncoder, structuredClone;
//   - Buffer: the parts of Node's class that codecs use (buffer.js, buffer.go);
//   - toLocaleString and Intl for common locales, as Node has them;
//   - module and exports, for scripts that were written as modules; export statements are passed over.
//
// Each is there only if the source names it, and made when it is read. Functions that are declared in blocks are known around them, as in browsers.
//
// The first of these that the script defines, as a global or as a member of driver, exports or module.exports, is called:
//
//	decodeUplink(input) | Decode(fPort, bytes, variables) | Decoder(bytes, fPort)
//	encodeDownlink(input) | Encode(fPort, object, variables) | Encoder(object, fPort)
//	decodeDownlink(input)
//
// input has bytes (a plain array), fPort, recvTime (a Date) and variables (the attributes of the device), or data, fPort and variables. fCnt (also f_cnt), rssi,
// snr and device (ids, attributes, version_ids) are there too but can't be enumerated. normalizeUplink({data}) is called after a decoded uplink if the script
// defines it. Async functions may be used as far as they need no timer.
//
// The result is turned to JSON inside the interpreter, as JSON.stringify does it: key order is kept, a Date is an ISO string. As in The Things Stack, undefined
// members are null, and a number that is not finite fails the call.
//
// An interpreter can't be stopped inside a built-in, and a script can exhaust the memory or the stack of the process. Run strangers' scripts through package
// formatters, which does so in a process of its own.
package javascript
