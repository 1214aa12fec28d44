// The parts of Node's Buffer that payload codecs use. The methods that read and write numbers of a fixed size are those of readers (buffer.go): they are
// many, and making all of them would cost each call of a script more than the script itself.
(function (readers) {
	'use strict';
	const hex = '0123456789abcdef', alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/';

	function fromHex(s) {
		const out = [];
		for (let i = 0; i + 1 < s.length; i += 2) {
			const n = parseInt(s.substr(i, 2), 16);
			if (isNaN(n)) break;
			out.push(n);
		}
		return out;
	}

	function fromBase64(s) {
		const out = [];
		let bits = 0, n = 0;
		for (let i = 0; i < s.length; i++) {
			const v = alphabet.indexOf(s[i] === '-' ? '+' : s[i] === '_' ? '/' : s[i]);
			if (v < 0) continue;
			bits = (bits << 6 | v) & 0xffffff;
			n += 6;
			if (n >= 8) {
				n -= 8;
				out.push(bits >> n & 255);
			}
		}
		return out;
	}

	function fromUTF8(s) {
		const out = [];
		for (const ch of s) {
			const c = ch.codePointAt(0);
			if (c < 0x80) out.push(c);
			else if (c < 0x800) out.push(0xc0 | c >> 6, 0x80 | c & 63);
			else if (c < 0x10000) out.push(0xe0 | c >> 12, 0x80 | c >> 6 & 63, 0x80 | c & 63);
			else out.push(0xf0 | c >> 18, 0x80 | c >> 12 & 63, 0x80 | c >> 6 & 63, 0x80 | c & 63);
		}
		return out;
	}

	function toUTF8(b) {
		let out = '';
		for (let i = 0; i < b.length;) {
			const c = b[i], size = c < 0x80 ? 1 : c >= 0xc2 && c < 0xe0 ? 2 : c >= 0xe0 && c < 0xf0 ? 3 : c >= 0xf0 && c < 0xf5 ? 4 : 0;
			let point = size === 1 ? c : c & 0xff >> size + 1, ok = size > 0 && i + size <= b.length;
			for (let k = 1; ok && k < size; k++) {
				ok = (b[i + k] & 0xc0) === 0x80;
				point = point << 6 | b[i + k] & 63;
			}
			ok = ok && !(size === 3 && (point < 0x800 || point >= 0xd800 && point < 0xe000)) && !(size === 4 && (point < 0x10000 || point > 0x10ffff));
			out += ok ? String.fromCodePoint(point) : '\ufffd';
			i += ok ? size : 1;
		}
		return out;
	}

	function toBase64(b, url) {
		let out = '';
		for (let i = 0; i < b.length; i += 3) {
			const n = b[i] << 16 | b[i + 1] << 8 | b[i + 2];
			out += alphabet[n >> 18 & 63] + alphabet[n >> 12 & 63] + (i + 1 < b.length ? alphabet[n >> 6 & 63] : '=') + (i + 2 < b.length ? alphabet[n & 63] : '=');
		}
		return url ? out.replace(/\+/g, '-').replace(/\//g, '_').replace(/=/g, '') : out;
	}

	function encodingOf(name) {
		const e = String(name === undefined ? 'utf8' : name).toLowerCase();
		switch (e) {
		case 'utf8': case 'utf-8': return 'utf8';
		case 'hex': case 'base64': case 'base64url': case 'ascii': return e;
		case 'latin1': case 'binary': return 'latin1';
		case 'utf16le': case 'utf-16le': case 'ucs2': case 'ucs-2': return 'utf16le';
		}
		throw new TypeError('Unknown encoding: ' + name);
	}

	function bytesOf(s, encoding) {
		switch (encodingOf(encoding)) {
		case 'hex': return fromHex(s);
		case 'base64': case 'base64url': return fromBase64(s);
		case 'ascii': case 'latin1': return Array.from({length: s.length}, function (_, i) { return s.charCodeAt(i) & 255; });
		case 'utf16le': return [].concat.apply([], Array.from({length: s.length}, function (_, i) { return [s.charCodeAt(i) & 255, s.charCodeAt(i) >> 8]; }));
		}
		return fromUTF8(s);
	}

	function make(bytes) {
		const b = new Buffer(Number(bytes.length) || 0);
		for (let i = 0; i < b.length; i++) b[i] = bytes[i];
		return b;
	}

	class Buffer extends Uint8Array {
		constructor(value, a, b) {
			if (typeof value === 'string') value = bytesOf(value, a);
			if (value instanceof ArrayBuffer) super(value, a, b);
			else super(value);
		}
		static get [Symbol.species]() { return Buffer; }
		static from(value, a, b) {
			if (typeof value === 'string') return make(bytesOf(value, a));
			if (value instanceof ArrayBuffer) return new Buffer(value, a, b);
			if (value && value.type === 'Buffer' && Array.isArray(value.data)) return make(value.data);
			if (value === null || typeof value !== 'object') throw new TypeError('Buffer.from: a string, an array or a buffer is needed');
			return make(value);
		}
		static alloc(n, fill, encoding) {
			const b = new Buffer(n);
			return fill === undefined ? b : b.fill(fill, encoding);
		}
		static allocUnsafe(n) { return new Buffer(n); }
		static isBuffer(b) { return b instanceof Buffer; }
		static byteLength(s, encoding) { return typeof s === 'string' ? bytesOf(s, encoding).length : s.byteLength; }
		static concat(list, total) {
			let n = 0;
			for (const b of list) n += b.length;
			const out = new Buffer(total === undefined ? n : total);
			let at = 0;
			for (const b of list) for (let i = 0; i < b.length && at < out.length; i++) out[at++] = b[i];
			return out;
		}
		static compare(a, b) { return make(a).compare(b); }
		toString(encoding, start, end) {
			const e = encodingOf(encoding), b = this.subarray(start === undefined ? 0 : start, end === undefined ? this.length : end);
			if (e === 'utf8') return toUTF8(b);
			if (e === 'base64' || e === 'base64url') return toBase64(b, e === 'base64url');
			let out = '';
			for (let i = 0; i < b.length; i++) {
				if (e === 'hex') out += hex[b[i] >> 4] + hex[b[i] & 15];
				else if (e === 'utf16le') { if (i % 2) out += String.fromCharCode(b[i - 1] | b[i] << 8); }
				else out += String.fromCharCode(e === 'ascii' ? b[i] & 127 : b[i]);
			}
			return out;
		}
		toJSON() { return {type: 'Buffer', data: Array.from(this)}; }
		slice(start, end) { return this.subarray(start, end); }
		equals(other) { return this.compare(other) === 0; }
		compare(other) {
			for (let i = 0; i < this.length && i < other.length; i++) if (this[i] !== other[i]) return this[i] < other[i] ? -1 : 1;
			return this.length < other.length ? -1 : this.length > other.length ? 1 : 0;
		}
		copy(target, at, start, end) {
			const from = this.subarray(start === undefined ? 0 : start, end === undefined ? this.length : end);
			at = at === undefined ? 0 : at;
			const n = Math.max(Math.min(from.length, target.length - at), 0);
			target.set(from.subarray(0, n), at);
			return n;
		}
		write(s, offset, length, encoding) {
			if (typeof offset === 'string') { encoding = offset; offset = undefined; }
			if (typeof length === 'string') { encoding = length; length = undefined; }
			offset = offset === undefined ? 0 : offset;
			const b = bytesOf(s, encoding), n = Math.min(b.length, this.length - offset, length === undefined ? b.length : length);
			for (let i = 0; i < n; i++) this[offset + i] = b[i];
			return n;
		}
		fill(value, start, end, encoding) {
			if (typeof start === 'string') { encoding = start; start = undefined; }
			if (typeof value !== 'string') return super.fill(value, start, end);
			const b = bytesOf(value, encoding), from = start === undefined ? 0 : start, to = end === undefined ? this.length : end;
			for (let i = from; i < to; i++) this[i] = b.length === 0 ? 0 : b[(i - from) % b.length];
			return this;
		}
		indexOf(value, at, encoding) {
			if (typeof value === 'number') return super.indexOf(value & 255, at);
			const b = typeof value === 'string' ? bytesOf(value, encoding) : value;
			for (let i = at === undefined ? 0 : at; i + b.length <= this.length; i++) {
				let k = 0;
				while (k < b.length && this[i + k] === b[k]) k++;
				if (k === b.length) return i;
			}
			return -1;
		}
		includes(value, at, encoding) { return this.indexOf(value, at, encoding) >= 0; }
		swap16() { return this.swap(2); }
		swap32() { return this.swap(4); }
		swap(n) {
			for (let i = 0; i + n <= this.length; i += n) this.subarray(i, i + n).reverse();
			return this;
		}
		check(offset, size) {
			offset = offset === undefined ? 0 : offset;
			if (typeof offset !== 'number') throw new TypeError('The "offset" argument must be of type number');
			if (!(offset >= 0 && offset + size <= this.length)) throw new RangeError('Attempt to access memory outside buffer bounds');
			return offset;
		}
		readUIntBE(offset, size) {
			let n = 0;
			offset = this.check(offset, size);
			for (let i = 0; i < size; i++) n = n * 256 + this[offset + i];
			return n;
		}
		readUIntLE(offset, size) {
			let n = 0;
			offset = this.check(offset, size);
			for (let i = size - 1; i >= 0; i--) n = n * 256 + this[offset + i];
			return n;
		}
		readIntBE(offset, size) { return signed(this.readUIntBE(offset, size), size); }
		readIntLE(offset, size) { return signed(this.readUIntLE(offset, size), size); }
		writeUIntBE(value, offset, size) {
			offset = this.check(offset, size);
			for (let i = size - 1; i >= 0; i--) { this[offset + i] = value; value = Math.floor(value / 256); }
			return offset + size;
		}
		writeUIntLE(value, offset, size) {
			offset = this.check(offset, size);
			for (let i = 0; i < size; i++) { this[offset + i] = value; value = Math.floor(value / 256); }
			return offset + size;
		}
		writeIntBE(value, offset, size) { return this.writeUIntBE(value, offset, size); }
		writeIntLE(value, offset, size) { return this.writeUIntLE(value, offset, size); }
		readUintBE(offset, size) { return this.readUIntBE(offset, size); }
		readUintLE(offset, size) { return this.readUIntLE(offset, size); }
	}

	function signed(n, size) {
		const limit = Math.pow(2, size * 8);
		return n >= limit / 2 ? n - limit : n;
	}

	Object.setPrototypeOf(readers, Uint8Array.prototype);
	Object.setPrototypeOf(Buffer.prototype, readers);
	return Buffer;
})
