package lua

import (
	"fmt"
	"math"
	"strings"

	vm "github.com/yuin/gopher-lua"
)

func stringLen(l *vm.LState) int {
	l.Push(vm.LNumber(len(l.CheckString(1))))
	return 1
}

// sliceOffsets turns arguments i and i+1, positions that may count from the end, into offsets of a string of the given length.
func sliceOffsets(l *vm.LState, i, length, to int) (int, int) {
	from := l.OptInt(i, 1)
	to = l.OptInt(i+1, to)
	if from < 0 {
		from = length + from + 1
	}
	if to < 0 {
		to = length + to + 1
	}
	from, to = max(from, 1), min(to, length)
	if from > to {
		return 0, 0
	}
	return from - 1, to
}

func stringByte(l *vm.LState) int {
	s := l.CheckString(1)
	at := l.OptInt(2, 1)
	from, to := sliceOffsets(l, 2, len(s), at)
	if to-from > maxResults {
		l.RaiseError("string slice too long: at most %d bytes", maxResults)
	}
	for _, b := range []byte(s[from:to]) {
		l.Push(byteValues[b])
	}
	return to - from
}

// byteValues are the Lua values of all bytes.
var byteValues = func() (out [256]vm.LValue) {
	for i := range out {
		out[i] = vm.LNumber(i)
	}
	return out
}()

// byteTable is a list of the bytes, as input.bytes is.
func byteTable(l *vm.LState, b []byte) *vm.LTable {
	t := l.CreateTable(len(b), 0)
	for _, v := range b {
		t.Append(byteValues[v])
	}
	return t
}

func stringChar(l *vm.LState) int {
	out := make([]byte, l.GetTop())
	for i := range out {
		v := l.CheckNumber(i + 1)
		if !(v >= 0 && v < 256) {
			l.ArgError(i+1, "value out of range: a byte is 0 to 255")
		}
		out[i] = byte(v)
	}
	l.Push(vm.LString(out))
	return 1
}

// mapBytes is for functions that change each byte on its own; whatever is not ASCII stays.
func mapBytes(l *vm.LState, f func(byte) byte) int {
	b := []byte(l.CheckString(1))
	runOf(l).mustMake(l, len(b))
	for i, c := range b {
		b[i] = f(c)
	}
	l.Push(vm.LString(b))
	return 1
}

func stringLower(l *vm.LState) int {
	return mapBytes(l, func(c byte) byte {
		if isUpper(c) {
			return c | 0x20
		}
		return c
	})
}

func stringUpper(l *vm.LState) int {
	return mapBytes(l, func(c byte) byte {
		if isLower(c) {
			return c &^ 0x20
		}
		return c
	})
}

func stringReverse(l *vm.LState) int {
	b := []byte(l.CheckString(1))
	runOf(l).mustMake(l, len(b))
	for i, j := 0, len(b)-1; i < j; i, j = i+1, j-1 {
		b[i], b[j] = b[j], b[i]
	}
	l.Push(vm.LString(b))
	return 1
}

func stringSub(l *vm.LState) int {
	s := l.CheckString(1)
	from, to := sliceOffsets(l, 2, len(s), -1)
	l.Push(vm.LString(s[from:to]))
	return 1
}

func stringRep(l *vm.LState) int {
	s, n := l.CheckString(1), l.CheckNumber(2)
	separator := l.OptString(3, "")
	if !(n >= 1) {
		l.Push(vm.LString(""))
		return 1
	}
	size := float64(n)*float64(len(s)+len(separator)) - float64(len(separator))
	runOf(l).mustMake(l, int(math.Min(size, 1<<31)))
	if size == 0 {
		l.Push(vm.LString(""))
		return 1
	}
	l.Push(vm.LString(strings.Repeat(s+separator, int(n)-1) + s))
	return 1
}

// stringFormat has the conversions of C but %a, %n and %p, and %q; a width or precision has at most two digits.
func stringFormat(l *vm.LState) int {
	format := l.CheckString(1)
	var out []byte
	argument := 1
	for i := 0; i < len(format); i++ {
		if format[i] != '%' {
			out = append(out, format[i])
			continue
		}
		if i++; i < len(format) && format[i] == '%' {
			out = append(out, '%')
			continue
		}
		spec, end := formatSpec(format, i)
		if end >= len(format) {
			l.RaiseError("invalid format: %%%s has no conversion", format[i:])
		}
		argument++
		before := len(out)
		out = append(out, formatOne(l, spec, format[end], argument)...)
		runOf(l).mustSpend(l, 1+(len(out)-before)/16)
		mustFit(l, len(out))
		i = end
	}
	mustFit(l, len(out))
	l.Push(vm.LString(out))
	return 1
}

// formatSpec gives flags, width and precision of the conversion at i, and where its letter is.
func formatSpec(format string, i int) (spec string, end int) {
	start := i
	for i < len(format) && strings.IndexByte("-+ #0", format[i]) >= 0 && i-start < 5 {
		i++
	}
	for width := 0; i < len(format) && isDigit(format[i]) && width < 2; width++ {
		i++
	}
	if i < len(format) && format[i] == '.' {
		i++
		for precision := 0; i < len(format) && isDigit(format[i]) && precision < 2; precision++ {
			i++
		}
	}
	return format[start:i], i
}

func formatOne(l *vm.LState, spec string, conversion byte, argument int) string {
	switch conversion {
	case 'd', 'i':
		return fmt.Sprintf("%"+spec+"d", integerArg(l, argument))
	case 'u':
		return fmt.Sprintf("%"+spec+"d", uint64(integerArg(l, argument)))
	case 'o', 'x', 'X':
		return fmt.Sprintf("%"+spec+string(conversion), uint64(integerArg(l, argument)))
	case 'c':
		return pad(string([]byte{byte(integerArg(l, argument))}), spec)
	case 'e', 'E', 'f', 'F', 'g', 'G':
		return formatFloat(spec, conversion, float64(l.CheckNumber(argument)))
	case 's':
		s := l.ToStringMeta(l.CheckAny(argument)).String()
		width, precision, ok := strings.Cut(spec, ".")
		if ok {
			n := 0
			_, _ = fmt.Sscan(precision, &n) // nothing is 0
			s = s[:min(n, len(s))]
		}
		return pad(s, width)
	case 'q':
		return quote(l.CheckString(argument))
	}
	l.RaiseError("invalid conversion %%%s%c to 'format'", spec, conversion)
	return ""
}

// integerArg cuts the fraction, as Lua 5.1 does.
func integerArg(l *vm.LState, i int) int64 {
	v := float64(l.CheckNumber(i))
	switch {
	case math.IsNaN(v) || v < -1<<63 || v >= 1<<64:
		l.ArgError(i, "number has no integer representation")
	case v >= 1<<63:
		return int64(uint64(v))
	}
	return int64(v)
}

// formatFloat differs from Go's verbs: the default precision of %g is 6, and the words for what is not finite are in lower case and without a plus.
func formatFloat(spec string, conversion byte, v float64) string {
	if math.IsInf(v, 0) || math.IsNaN(v) {
		word := "nan"
		if math.IsInf(v, 0) {
			word = strings.TrimPrefix(strings.ToLower(fmt.Sprint(v)), "+")
		}
		width, _, _ := strings.Cut(spec, ".")
		return pad(word, strings.ReplaceAll(width, "0", " "))
	}
	if !strings.Contains(spec, ".") {
		spec += ".6"
	}
	return fmt.Sprintf("%"+spec+string(conversion), v)
}

// pad fills s with spaces to the width in spec, in bytes.
func pad(s, spec string) string {
	width := 0
	_, _ = fmt.Sscan(strings.TrimLeft(spec, "-+ #0"), &width) // nothing is 0
	if n := width - len(s); n > 0 && strings.Contains(spec, "-") {
		return s + strings.Repeat(" ", n)
	} else if n > 0 {
		return strings.Repeat(" ", n) + s
	}
	return s
}

// quote writes a string so that Lua reads it back.
func quote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for i, c := range []byte(s) {
		switch {
		case c == '"' || c == '\\' || c == '\n':
			b.WriteByte('\\')
			b.WriteByte(c)
		case c == '\r':
			b.WriteString(`\r`)
		case c == 0 && (i+1 == len(s) || !isDigit(s[i+1])):
			b.WriteString(`\0`)
		case c == 0:
			b.WriteString(`\000`)
		default:
			b.WriteByte(c)
		}
	}
	b.WriteByte('"')
	return b.String()
}
