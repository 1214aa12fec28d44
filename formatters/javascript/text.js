// TextDecoder, TextEncoder and structuredClone. decode(bytes, encoding) and encode(text) convert.
(function (decode, encode) {
	'use strict';
	const encodings = {'utf-8': 'utf-8', utf8: 'utf-8', 'utf-16': 'utf-16le', 'utf-16le': 'utf-16le', ascii: 'latin1', 'us-ascii': 'latin1', latin1: 'latin1', 'iso-8859-1': 'latin1', 'windows-1252': 'latin1'};

	class TextDecoder {
		#fatal;
		constructor(label, options) {
			this.encoding = encodings[String(label === undefined ? 'utf-8' : label).trim().toLowerCase()];
			if (!this.encoding) throw new RangeError('The "' + label + '" encoding is not supported');
			this.#fatal = Boolean(options && options.fatal);
		}
		decode(input) {
			let view = new Uint8Array(0);
			if (input instanceof ArrayBuffer) view = new Uint8Array(input);
			else if (ArrayBuffer.isView(input)) view = new Uint8Array(input.buffer, input.byteOffset, input.byteLength);
			else if (input !== undefined) throw new TypeError('The "input" argument must be an ArrayBuffer or a view of one');
			const text = decode(view, this.encoding);
			if (this.#fatal && text.indexOf('\ufffd') >= 0) throw new TypeError('The encoded data was not valid for encoding ' + this.encoding);
			return text.charCodeAt(0) === 0xfeff ? text.slice(1) : text;
		}
	}

	class TextEncoder {
		get encoding() { return 'utf-8'; }
		encode(text) { return new Uint8Array(encode(text === undefined ? '' : String(text))); }
	}

	function structuredClone(value) {
		const seen = new Map();
		return (function clone(v) {
			if (typeof v === 'function' || typeof v === 'symbol') throw new TypeError(String(v) + ' could not be cloned');
			if (v === null || typeof v !== 'object') return v;
			if (seen.has(v)) return seen.get(v);
			let out;
			if (v instanceof Date) return new Date(v.getTime());
			if (ArrayBuffer.isView(v) || v instanceof ArrayBuffer) return v.slice(0);
			if (v instanceof Map) { seen.set(v, out = new Map()); v.forEach((x, k) => out.set(clone(k), clone(x))); return out; }
			if (v instanceof Set) { seen.set(v, out = new Set()); v.forEach((x) => out.add(clone(x))); return out; }
			seen.set(v, out = Array.isArray(v) ? new Array(v.length) : {});
			for (const key of Object.keys(v)) out[key] = clone(v[key]);
			return out;
		})(value);
	}
	return {TextDecoder, TextEncoder, structuredClone};
})
