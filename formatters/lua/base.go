package lua

import (
	"maps"
	"math"
	"strconv"
	"strings"

	vm "github.com/yuin/gopher-lua"
)

func newGlobals() map[string]vm.LValue {
	out := functions(map[string]vm.LGFunction{
		guardedName: baseConcat, "error": baseError, "print": drop, "setmetatable": baseSetmetatable, "tonumber": baseTonumber, "unpack": tableUnpack,
	})
	maps.Copy(out, upstream(vm.OpenBase, "_G", "assert", "getmetatable", "ipairs", "next", "pairs", "pcall", "rawequal", "rawget", "rawset",
		"select", "tostring", "type", "xpcall"))
	out["_VERSION"] = vm.LString("Lua 5.1")
	return out
}

// drop takes what a script logs. A worker has no log, and what a payload contains does not belong into one.
func drop(*vm.LState) int { return 0 }

// baseError raises a string as it is, without the position: it is what the user reads as the error of the formatter.
func baseError(l *vm.LState) int {
	l.Error(l.CheckAny(1), 0)
	return 0
}

// baseSetmetatable works on tables alone, as in Lua; a metatable of a type would be no harm, one of json.null would.
func baseSetmetatable(l *vm.LState) int {
	t := l.CheckTable(1)
	l.CheckTypes(2, vm.LTNil, vm.LTTable)
	if old, ok := t.Metatable.(*vm.LTable); ok && old.RawGetString("__metatable") != vm.LNil {
		l.RaiseError("cannot change a protected metatable")
	}
	l.SetMetatable(t, l.Get(2))
	l.SetTop(1)
	return 1
}

func baseTonumber(l *vm.LState) int {
	v := l.CheckAny(1)
	if l.Get(2) != vm.LNil {
		return toNumberInBase(l, l.CheckString(1), l.CheckInt(2))
	}
	switch v := v.(type) {
	case vm.LNumber:
		l.Push(v)
	case vm.LString:
		if n, ok := parseNumber(string(v)); ok {
			l.Push(vm.LNumber(n))
		} else {
			l.Push(vm.LNil)
		}
	default:
		l.Push(vm.LNil)
	}
	return 1
}

const spaces = " \t\n\v\f\r"

// parseNumber reads a decimal or a hexadecimal number as strtod does, without its words for infinity and NaN.
func parseNumber(s string) (float64, bool) {
	s = strings.Trim(s, spaces)
	digits := strings.TrimLeft(s, "+-")
	if len(s)-len(digits) > 1 || strings.ContainsAny(digits, "_iInN+pP") && !isExponent(digits) {
		return 0, false
	}
	if len(digits) > 2 && (digits[:2] == "0x" || digits[:2] == "0X") {
		n, err := strconv.ParseUint(digits[2:], 16, 64)
		if s[0] == '-' {
			return -float64(n), err == nil
		}
		return float64(n), err == nil
	}
	n, err := strconv.ParseFloat(s, 64)
	return n, err == nil || math.IsInf(n, 0)
}

// isExponent allows the plus of 1e+5.
func isExponent(digits string) bool {
	return !strings.ContainsAny(digits, "_iInNpP") && strings.Contains(strings.ToLower(digits), "e+")
}

func toNumberInBase(l *vm.LState, s string, base int) int {
	if base < 2 || base > 36 {
		l.ArgError(2, "base out of range")
	}
	s = strings.ToLower(strings.Trim(s, spaces))
	digits, negative := strings.CutPrefix(s, "-")
	if base == 16 {
		digits = strings.TrimPrefix(digits, "0x")
	}
	n := 0.0
	for _, c := range []byte(digits) {
		d := base
		switch {
		case c >= '0' && c <= '9':
			d = int(c - '0')
		case c >= 'a' && c <= 'z':
			d = int(c-'a') + 10
		}
		if d >= base {
			l.Push(vm.LNil)
			return 1
		}
		n = n*float64(base) + float64(d)
	}
	switch {
	case digits == "":
		l.Push(vm.LNil)
	case negative:
		l.Push(vm.LNumber(-n))
	default:
		l.Push(vm.LNumber(n))
	}
	return 1
}

// baseConcat is a..b..c, which is evaluated from the right. See checker.concat.
func baseConcat(l *vm.LState) int {
	n := l.GetTop()
	joined := l.Get(n)
	for i := n - 1; i >= 1; i-- {
		// As many as possible at once, so that a long chain takes linear time.
		from := i
		for from >= 1 && vm.LVCanConvToString(l.Get(from)) {
			from--
		}
		if from < i && vm.LVCanConvToString(joined) {
			joined = joinStrings(l, from+1, i, joined)
			i = from + 1
			continue
		}
		joined = concatObjects(l, l.Get(i), joined)
	}
	l.Push(joined)
	return 1
}

func joinStrings(l *vm.LState, from, to int, last vm.LValue) vm.LValue {
	parts := make([]string, 0, 8)
	size := 0
	for i := from; i <= to; i++ {
		parts = append(parts, l.Get(i).String())
		size += len(parts[len(parts)-1])
	}
	parts = append(parts, last.String())
	runOf(l).mustMake(l, size+len(parts[len(parts)-1]))
	return vm.LString(strings.Join(parts, ""))
}

func concatObjects(l *vm.LState, a, b vm.LValue) vm.LValue {
	f := l.GetMetaField(a, "__concat")
	if f == vm.LNil {
		f = l.GetMetaField(b, "__concat")
	}
	if f == vm.LNil {
		culprit := a
		if vm.LVCanConvToString(a) {
			culprit = b
		}
		l.RaiseError("attempt to concatenate a %s value", culprit.Type())
	}
	l.Push(f)
	l.Push(a)
	l.Push(b)
	l.Call(2, 1)
	v := l.Get(-1)
	l.Pop(1)
	return v
}
