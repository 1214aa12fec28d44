// Runs before the script, in the same runtime, and keeps the built-ins as they were before the script could change them.
// Its functions answer with lines, each a JSON text (which has no line break): the outcome, then what belongs to it.
(function () {
	'use strict';
	const stringify = JSON.stringify, parse = JSON.parse, isArray = Array.isArray, keys = Object.keys, assign = Object.assign;
	const isFinite = Number.isFinite, text = String, number = Number, ThePromise = Promise, TheDate = Date, isView = ArrayBuffer.isView;
	const indexOf = Function.prototype.call.bind(String.prototype.indexOf);
	const charCodeAt = Function.prototype.call.bind(String.prototype.charCodeAt);
	const slice = Function.prototype.call.bind(String.prototype.slice);
	const maxTexts = 64, maxText = 1024, maxDepth = 32, maxBytes = 4096;

	// What each operation looks for, best first; style says how the function is called and what it returns.
	const wanted = {
		decodeUplink: [['decodeUplink', 'ts013'], ['Decode', 'chirpstack'], ['Decoder', 'legacy']],
		encodeDownlink: [['encodeDownlink', 'ts013'], ['Encode', 'chirpstack'], ['Encoder', 'legacy']],
		decodeDownlink: [['decodeDownlink', 'ts013']],
	};
	let op, style, requestedFPort, normalize; // of this call: the runtime is used once

	function refuse(message) {
		return 'output\n' + stringify([message]);
	}

	function member(holder, name) {
		if (holder === null || (typeof holder !== 'object' && typeof holder !== 'function')) return undefined;
		const f = holder[name];
		return typeof f === 'function' ? f : undefined;
	}

	function find(found, name) {
		if (typeof found.globals[name] === 'function') return {f: found.globals[name], self: undefined};
		for (let i = 0; i < found.holders.length; i++) {
			const f = member(found.holders[i], name);
			if (f !== undefined) return {f: f, self: found.holders[i]};
		}
		return undefined;
	}

	function describe(e) {
		try {
			if (typeof e === 'object' && e !== null && typeof e.message === 'string' && e.message !== '') {
				const plain = e.name === undefined || e.name === 'Error';
				return slice(plain ? e.message : text(e.name) + ': ' + e.message, 0, maxText);
			}
			if (typeof e === 'object' && e !== null && !(e instanceof Error)) return slice(text(stringify(e)), 0, maxText);
			return slice(text(e), 0, maxText);
		} catch (_) {
			return 'a value that can not be shown';
		}
	}

	// texts makes a list of strings of a script's warnings or errors; undefined if it is none.
	function texts(v) {
		if (v === undefined || v === null) return [];
		if (typeof v === 'string') return [slice(v, 0, maxText)];
		if (!isArray(v)) return undefined;
		const out = [];
		for (let i = 0; i < v.length && i < maxTexts; i++) {
			out[i] = typeof v[i] === 'string' ? slice(v[i], 0, maxText) : describe(v[i]);
		}
		return out;
	}

	// nonFinite finds the first number that JSON can not hold.
	function nonFinite(v, path, depth) {
		if (typeof v === 'number') return isFinite(v) ? undefined : path;
		if (typeof v !== 'object' || v === null || depth > maxDepth) return undefined;
		const names = keys(v);
		for (let i = 0; i < names.length; i++) {
			const at = nonFinite(v[names[i]], path === '' ? names[i] : path + '.' + names[i], depth + 1);
			if (at !== undefined) return at;
		}
		return undefined;
	}

	function object(v) {
		return isArray(v) ? assign({}, v) : v;
	}

	function isObject(v) {
		return typeof v === 'object' && v !== null;
	}

	function decoded(result) {
		let data = result, warnings = [];
		if (!isObject(result)) {
			return refuse(op + ' must return an object, not ' + (result === null ? 'null' : typeof result));
		}
		if (style === 'ts013') {
			const bare = !('data' in result) && !('errors' in result) && !('warnings' in result);
			const errors = texts(result.errors);
			warnings = texts(result.warnings);
			if (errors === undefined || warnings === undefined) return refuse('errors and warnings must be arrays of strings');
			if (errors.length > 0) return 'errors\n' + stringify(errors);
			data = bare ? result : result.data;
			if (bare) warnings[warnings.length] = op + ' returned an object without data; it is taken as the data';
			if (!isObject(data)) {
				return refuse('data must be an object, not ' + (data === null ? 'null' : typeof data) + (warnings.length > 0 ? ' (' + warnings[0] + ')' : ''));
			}
		}
		data = object(data);
		const json = stringify(data);
		if (typeof json === 'string' && indexOf(json, 'null') >= 0) {
			const at = nonFinite(data, '', 0);
			if (at !== undefined) warnings[warnings.length] = slice(at, 0, maxText) + ' is not a finite number; it is sent as null';
		}
		return 'decoded\n' + json + '\n' + stringify(warnings) + normalized(data);
	}

	// normalized adds the measurements and their warnings. A failure leaves the decoded data as they are.
	function normalized(data) {
		if (op !== 'decodeUplink' || normalize === undefined) return '';
		const failed = function (why) {
			return '\n' + stringify(['normalizeUplink: ' + why]);
		};
		try {
			const result = normalize.f.call(normalize.self, {data: data});
			if (result instanceof ThePromise) return failed('must not be an async function');
			if (!isObject(result)) return failed('must return {data: ...}');
			const errors = texts(result.errors), warnings = texts(result.warnings);
			if (errors === undefined || warnings === undefined) return failed('errors and warnings must be arrays of strings');
			if (errors.length > 0) return failed(errors.join('; '));
			const list = isArray(result.data) ? result.data : [result.data];
			let lines = '';
			for (let i = 0; i < list.length; i++) {
				if (!isObject(list[i]) || isArray(list[i])) return failed('data must be an object or an array of objects');
				lines += '\n' + stringify(list[i]);
			}
			return '\n' + stringify(warnings) + lines;
		} catch (e) {
			return failed(describe(e));
		}
	}

	function utf8(s) {
		const out = [];
		for (let i = 0; i < s.length; i++) {
			let c = charCodeAt(s, i);
			if (c >= 0xd800 && c < 0xdc00 && i + 1 < s.length) c = 0x10000 + ((c & 0x3ff) << 10) + (charCodeAt(s, ++i) & 0x3ff);
			if (c < 0x80) out[out.length] = c;
			else if (c < 0x800) { out[out.length] = 0xc0 | c >> 6; out[out.length] = 0x80 | c & 63; }
			else if (c < 0x10000) { out[out.length] = 0xe0 | c >> 12; out[out.length] = 0x80 | c >> 6 & 63; out[out.length] = 0x80 | c & 63; }
			else { out[out.length] = 0xf0 | c >> 18; out[out.length] = 0x80 | c >> 12 & 63; out[out.length] = 0x80 | c >> 6 & 63; out[out.length] = 0x80 | c & 63; }
		}
		return out;
	}

	function encoded(result) {
		let bytes = result, fPort = 0, warnings = [];
		const wrapped = isObject(result) && !isArray(result) && !isView(result);
		if (style === 'ts013' || wrapped) {
			if (!wrapped) return refuse('encodeDownlink must return an object with bytes, not ' + (result === null ? 'null' : isArray(result) ? 'an array' : typeof result));
			const errors = texts(result.errors);
			warnings = texts(result.warnings);
			if (errors === undefined || warnings === undefined) return refuse('errors and warnings must be arrays of strings');
			if (errors.length > 0) return 'errors\n' + stringify(errors);
			bytes = result.bytes;
			fPort = result.fPort === undefined || result.fPort === null ? 0 : number(result.fPort);
		}
		if (!(fPort >= 0 && fPort <= 255 && fPort % 1 === 0)) return refuse('fPort must be an integer of 1 to 255, not ' + fPort);
		if (typeof bytes === 'string') bytes = bytes.length > maxBytes ? bytes : utf8(bytes);
		if (!isArray(bytes) && !isView(bytes)) {
			if (!(typeof bytes === 'string')) return refuse('bytes must be an array of numbers, not ' + (bytes === null ? 'null' : typeof bytes));
		}
		if (bytes.length > maxBytes) return refuse('bytes has ' + bytes.length + ' bytes: a downlink has at most 242');
		const out = [];
		for (let i = 0; i < bytes.length; i++) out[i] = number(bytes[i]) & 255;
		return 'encoded\n' + (fPort || requestedFPort || 1) + '\n' + stringify(out) + '\n' + stringify(warnings);
	}

	function finish(result) {
		return op === 'encodeDownlink' ? encoded(result) : decoded(result);
	}

	// start calls the script. It answers with lines, or gives the Promise of an async function; resume finishes with its value.
	function start(found, operation, bytes, fPort, milliseconds, json) {
		op = operation;
		requestedFPort = fPort;
		normalize = find(found, 'normalizeUplink');
		let target;
		for (let i = 0; i < wanted[op].length && target === undefined; i++) {
			target = find(found, wanted[op][i][0]);
			style = wanted[op][i][1];
		}
		if (target === undefined) return 'missing\n' + stringify([wanted[op][0][0]]);
		const encoding = op === 'encodeDownlink', what = encoding ? parse(json) : bytes;
		let result;
		if (style === 'chirpstack') result = target.f.call(target.self, fPort, what, {});
		else if (style === 'legacy') result = target.f.call(target.self, what, fPort);
		else if (encoding) result = target.f.call(target.self, {data: what, fPort: fPort, variables: {}});
		else result = target.f.call(target.self, {bytes: bytes, fPort: fPort, recvTime: new TheDate(milliseconds), variables: {}});
		return result instanceof ThePromise ? result : finish(result);
	}

	return {start: start, resume: finish, describe: describe};
})()
