// Runs after the script, in its scope: top-level const and let are not properties of the global object.
({
	globals: {
		decodeUplink: typeof decodeUplink === 'function' ? decodeUplink : undefined,
		normalizeUplink: typeof normalizeUplink === 'function' ? normalizeUplink : undefined,
		encodeDownlink: typeof encodeDownlink === 'function' ? encodeDownlink : undefined,
		decodeDownlink: typeof decodeDownlink === 'function' ? decodeDownlink : undefined,
		Decode: typeof Decode === 'function' ? Decode : undefined,
		Decoder: typeof Decoder === 'function' ? Decoder : undefined,
		Encode: typeof Encode === 'function' ? Encode : undefined,
		Encoder: typeof Encoder === 'function' ? Encoder : undefined,
	},
	holders: [
		typeof driver === 'undefined' ? null : driver,
		typeof exports === 'undefined' ? null : exports,
		typeof module === 'undefined' || module === null ? null : module.exports,
	],
})
