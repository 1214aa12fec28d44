package lua

import (
	"strings"

	vm "github.com/yuin/gopher-lua"
)

// mustNext is next for library functions. It counts a step for each option.
func (y *layout) mustNext(l *vm.LState, done int) (item, bool) {
	it, ok, err := y.next(done)
	if err != nil {
		l.RaiseError("%s", err.Error())
	}
	runOf(l).mustSpend(l, 1)
	return it, ok
}

func stringPack(l *vm.LState) int {
	y := newLayout(l.CheckString(1))
	var out []byte
	argument := 1
	for {
		it, ok := y.mustNext(l, len(out))
		if !ok {
			break
		}
		out = append(out, make([]byte, it.padding)...)
		switch it.kind {
		case kindByte:
			out = append(out, 0)
		case kindAlign:
		default:
			argument++
			out = packOne(l, y, out, it, argument)
		}
		if len(out) > maxString {
			break
		}
	}
	runOf(l).mustMake(l, len(out))
	l.Push(vm.LString(out))
	return 1
}

func packOne(l *vm.LState, y *layout, out []byte, it item, argument int) []byte {
	switch it.kind {
	case kindFloat, kindDouble:
		return y.appendFloat(out, float64(l.CheckNumber(argument)), it)
	case kindSigned, kindUnsigned:
		out, err := y.appendInteger(out, float64(l.CheckNumber(argument)), it)
		if err != nil {
			l.ArgError(argument, err.Error())
		}
		return out
	}
	s := l.CheckString(argument)
	switch it.kind {
	case kindFixed:
		if len(s) > it.size {
			l.ArgError(argument, "string longer than given size")
		}
		runOf(l).mustMake(l, it.size)
		return append(append(out, s...), make([]byte, it.size-len(s))...)
	case kindPrefixed:
		out, err := y.appendInteger(out, float64(len(s)), item{kind: kindUnsigned, size: it.size})
		if err != nil {
			l.ArgError(argument, "string length does not fit in given size")
		}
		return append(out, s...)
	default:
		if strings.IndexByte(s, 0) >= 0 {
			l.ArgError(argument, "string contains zeros")
		}
		return append(append(out, s...), 0)
	}
}

func stringPacksize(l *vm.LState) int {
	y := newLayout(l.CheckString(1))
	size := 0
	for {
		it, ok := y.mustNext(l, size)
		if !ok {
			break
		}
		if it.kind == kindPrefixed || it.kind == kindZero {
			l.ArgError(1, "variable-length format")
		}
		if size += it.padding + it.size; size > maxString {
			l.ArgError(1, "format result too large")
		}
	}
	l.Push(vm.LNumber(size))
	return 1
}

// stringUnpack gives the values and the position after them.
func stringUnpack(l *vm.LState) int {
	y, s := newLayout(l.CheckString(1)), l.CheckString(2)
	at := l.OptInt(3, 1)
	if at < 0 {
		at = max(len(s)+at+1, 1)
	}
	if at < 1 || at > len(s)+1 {
		l.ArgError(3, "initial position out of string")
	}
	at--
	n := 0
	for {
		it, ok := y.mustNext(l, at)
		if !ok {
			break
		}
		if it.padding+it.size > len(s)-at {
			l.ArgError(2, "data string too short")
		}
		at += it.padding
		if it.kind == kindByte || it.kind == kindAlign {
			at += it.size
			continue
		}
		if n++; n > maxResults {
			l.RaiseError("too many results: at most %d", maxResults)
		}
		v, length := unpackOne(l, y, s[at:], it)
		at += length
		l.Push(v)
	}
	l.Push(vm.LNumber(at + 1))
	return n + 1
}

// unpackOne reads a value from the start of s, which has at least it.size bytes.
func unpackOne(l *vm.LState, y *layout, s string, it item) (v vm.LValue, length int) {
	switch it.kind {
	case kindFloat, kindDouble:
		return vm.LNumber(y.float(s[:it.size])), it.size
	case kindFixed:
		return vm.LString(s[:it.size]), it.size
	case kindZero:
		end := strings.IndexByte(s, 0)
		if end < 0 {
			l.ArgError(2, "unfinished string for format 'z'")
		}
		return vm.LString(s[:end]), end + 1
	}
	n, err := y.integer(s[:it.size], it.kind == kindSigned)
	if err != nil {
		l.RaiseError("%s", err.Error())
	}
	if it.kind != kindPrefixed {
		return vm.LNumber(n), it.size
	}
	if n > float64(len(s)-it.size) {
		l.ArgError(2, "data string too short")
	}
	return vm.LString(s[it.size:][:int(n)]), it.size + int(n)
}
