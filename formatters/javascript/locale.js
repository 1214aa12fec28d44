// toLocaleString and its kin as Node has them, for the locales and options that codecs use; other locales are written as en-US. parts(ms, zone) gives
// [year, month, day, hour, minute, second, weekday] of a time in a zone.
(function (parts) {
	'use strict';
	const months = ['January', 'February', 'March', 'April', 'May', 'June', 'July', 'August', 'September', 'October', 'November', 'December'];
	const days = ['Sunday', 'Monday', 'Tuesday', 'Wednesday', 'Thursday', 'Friday', 'Saturday'];
	// date: pattern with d, m (dd, mm: two digits) and y; join: between date and time; time: between hours and minutes; group, point: of numbers.
	const locales = {
		'en-US': {date: 'm/d/y', twelve: [' AM', ' PM']}, 'en-GB': {date: 'dd/mm/y'}, 'en-CA': {date: 'y-mm-dd', twelve: [' a.m.', ' p.m.']},
		'en-AU': {date: 'dd/mm/y', twelve: [' am', ' pm']}, 'en-NZ': {date: 'd/mm/y', twelve: [' am', ' pm']}, 'en-IN': {date: 'd/m/y', twelve: [' am', ' pm']}, 'en-IE': {date: 'd/m/y'},
		de: {date: 'd.m.y', group: '.', point: ','}, fr: {date: 'dd/mm/y', join: ' ', group: '\u202f', point: ','},
		sv: {date: 'y-mm-dd', join: ' ', group: '\u00a0', point: ','}, nl: {date: 'd-m-y', group: '.', point: ','}, it: {date: 'dd/mm/y', group: '.', point: ','},
		es: {date: 'd/m/y', hour: 1, group: '.', point: ','}, pt: {date: 'dd/mm/y', group: '.', point: ','}, pl: {date: 'd.mm.y', group: '\u00a0', point: ','},
		da: {date: 'd.m.y', time: '.', group: '.', point: ','}, fi: {date: 'd.m.y', join: ' klo ', time: '.', hour: 1, group: '\u00a0', point: ','},
		nb: {date: 'd.m.y', group: '\u00a0', point: ','}, cs: {date: 'd. m. y', join: ' ', hour: 1, group: '\u00a0', point: ','},
		sk: {date: 'd. m. y', join: ' ', hour: 1, group: '\u00a0', point: ','}, ro: {date: 'dd.mm.y', group: '.', point: ','}, tr: {date: 'dd.mm.y', join: ' ', group: '.', point: ','},
		ru: {date: 'dd.mm.y', group: '\u00a0', point: ','}, uk: {date: 'dd.mm.y', group: '\u00a0', point: ','},
		zh: {date: 'y/m/d', join: ' '}, ja: {date: 'y/m/d', join: ' ', hour: 1},
	};

	function localeOf(name) {
		const wanted = Array.isArray(name) ? name[0] : name; // an empty list is how one asks for the default
		const tag = String(wanted === undefined ? 'en-US' : wanted);
		if (!/^[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*$/.test(tag)) throw new RangeError('Incorrect locale information provided');
		const found = locales[tag] || locales[tag.split('-')[0]] || locales['en-US'];
		return Object.assign({join: ', ', time: ':', group: ',', point: '.', hour: 2}, found);
	}

	function two(n) { return n < 10 ? '0' + n : String(n); }

	// rounded gives the digits of a number that is not negative, with half away from zero, by its shortest decimal.
	function rounded(n, most) {
		let [digits, exponent] = n.toExponential().split('e');
		digits = digits.replace('.', '');
		let point = Number(exponent) + 1;
		const keep = point + most;
		if (keep < 0) return ['0', ''];
		if (keep < digits.length) {
			const up = digits[keep] >= '5';
			digits = digits.slice(0, keep);
			if (up) {
				let i = keep - 1;
				while (i >= 0 && digits[i] === '9') i--;
				digits = i < 0 ? '1' + '0'.repeat(keep) : digits.slice(0, i) + (Number(digits[i]) + 1) + '0'.repeat(keep - 1 - i);
				if (i < 0) point++;
			}
		}
		if (point <= 0) return ['0', '0'.repeat(-point) + digits];
		digits = digits.padEnd(point, '0');
		return [digits.slice(0, point), digits.slice(point)];
	}

	function formatNumber(n, name, options) {
		const l = localeOf(name), o = options || {}, percent = o.style === 'percent';
		if (n !== n) return 'NaN';
		const least = o.minimumFractionDigits === undefined ? 0 : Number(o.minimumFractionDigits);
		const most = o.maximumFractionDigits === undefined ? Math.max(least, percent ? 0 : 3) : Number(o.maximumFractionDigits);
		if (!(least >= 0 && most <= 100 && least <= most)) throw new RangeError('maximumFractionDigits value is out of range.');
		const sign = n < 0 || Object.is(n, -0) ? '-' : '';
		if (!isFinite(n)) return sign + '∞';
		let [whole, fraction] = rounded(Math.abs(percent ? n * 100 : n), most);
		fraction = fraction.replace(/0+$/, '').padEnd(least, '0');
		whole = whole.padStart(Number(o.minimumIntegerDigits) || 1, '0');
		if (o.useGrouping !== false) whole = whole.replace(/\B(?=(\d{3})+$)/g, l.group);
		return sign + whole + (fraction ? l.point + fraction : '') + (percent ? '%' : '');
	}

	function styled(o) {
		const out = Object.assign({}, o);
		const date = {full: {weekday: 'long', month: 'long'}, long: {month: 'long'}, medium: {month: 'short'}, short: {month: 'numeric', year: '2-digit'}}[o.dateStyle];
		if (date) Object.assign(out, {year: 'numeric', day: 'numeric'}, date);
		if (o.timeStyle) Object.assign(out, {hour: 'numeric', minute: '2-digit'}, o.timeStyle === 'short' ? {} : {second: '2-digit'});
		return out;
	}

	// formatDate writes the date (1), the time (2) or both (3) unless the options say what is wanted.
	function formatDate(date, name, options, preset) {
		const ms = Number(date), l = localeOf(name);
		if (isNaN(ms)) return 'Invalid Date';
		const o = styled(options || {});
		const dated = o.weekday || o.year || o.month || o.day, timed = o.hour || o.minute || o.second;
		if (!dated && !timed) {
			if (preset & 1) o.year = o.month = o.day = 'numeric';
			if (preset & 2) { o.hour = l.hour === 2 && !l.twelve ? '2-digit' : 'numeric'; o.minute = o.second = '2-digit'; }
		} else if (!dated && preset === 1) o.year = o.month = o.day = 'numeric';
		else if (!timed && preset === 2) { o.hour = 'numeric'; o.minute = o.second = '2-digit'; }
		const p = parts(ms, o.timeZone === undefined ? 'UTC' : String(o.timeZone));
		return [dateText(p, o, l), timeText(p, o, l)].filter(Boolean).join(l.join);
	}

	function dateText(p, o, l) {
		const year = o.year && (o.year === '2-digit' ? two(p[0] % 100) : String(p[0]));
		const weekday = o.weekday && (o.weekday === 'long' ? days[p[6]] : days[p[6]].slice(0, 3));
		const day = o.day && (o.day === '2-digit' ? two(p[2]) : String(p[2]));
		if (o.month === 'long' || o.month === 'short') {
			const month = o.month === 'long' ? months[p[1] - 1] : months[p[1] - 1].slice(0, 3);
			return [weekday, [month, day].filter(Boolean).join(' '), year].filter(Boolean).join(', ');
		}
		const wide = {d: o.day === '2-digit' || /dd/.test(l.date), m: o.month === '2-digit' || /mm/.test(l.date)};
		const values = {d: day && (wide.d ? two(p[2]) : day), m: o.month && (wide.m ? two(p[1]) : String(p[1])), y: year};
		const separator = l.date.replace(/[dmy]/g, '').charAt(0) + (l.date.indexOf(' ') > 0 ? ' ' : '');
		const text = l.date.replace(/dd/, 'd').replace(/mm/, 'm').replace(/[^dmy]/g, '').split('').map((c) => values[c]).filter(Boolean).join(separator);
		return [weekday, text].filter(Boolean).join(', ');
	}

	function timeText(p, o, l) {
		const twelve = o.hour12 === undefined ? o.hourCycle ? /h1[12]/.test(o.hourCycle) : l.twelve : o.hour12;
		const names = l.twelve || [' am', ' pm'];
		const midnight = o.hour12 === false && l.twelve ? 24 : 0; // en-US counts from 1 to 24 then
		const hour = o.hour && (twelve ? p[3] % 12 || 12 : p[3] || midnight);
		const values = [];
		if (o.hour) values.push(o.hour === '2-digit' || !twelve && l.hour === 2 ? two(hour) : String(hour));
		if (o.minute) values.push(o.hour || o.minute === '2-digit' && o.second ? two(p[4]) : String(p[4]));
		if (o.second) values.push(o.minute ? two(p[5]) : String(p[5]));
		return values.join(l.time) + (o.hour && twelve ? names[p[3] < 12 ? 0 : 1] : '');
	}

	function define(target, name, f) { Object.defineProperty(target, name, {value: f, writable: true, configurable: true}); }

	define(Number.prototype, 'toLocaleString', function (name, options) { return formatNumber(Number(this), name, options); });
	define(Date.prototype, 'toLocaleString', function (name, options) { return formatDate(this, name, options, 3); });
	define(Date.prototype, 'toLocaleDateString', function (name, options) { return formatDate(this, name, options, 1); });
	define(Date.prototype, 'toLocaleTimeString', function (name, options) { return formatDate(this, name, options, 2); });

	function formatter(format) {
		return function (name, options) {
			const self = Object.create(new.target ? new.target.prototype : null);
			self.format = function (v) { return format(v, name, options); };
			self.resolvedOptions = function () { return {locale: name || 'en-US', timeZone: options && options.timeZone || 'UTC'}; };
			return self;
		};
	}
	return {
		NumberFormat: formatter((v, name, options) => formatNumber(Number(v), name, options)),
		DateTimeFormat: formatter((v, name, options) => formatDate(v === undefined ? Date.now() : v, name, options, 1)),
	};
})
