package lua

import (
	"math"
	"strconv"
	"strings"
	"time"

	vm "github.com/yuin/gopher-lua"
)

// unixSeconds keeps microseconds, which is what a float64 can hold of them.
func unixSeconds(t time.Time) float64 { return float64(t.UnixMicro()) / 1e6 }

// osTime gives the time now, or that of a table with year, month and day, and hour (12 if it is missing), min and sec; all in UTC, as everything here.
func osTime(l *vm.LState) int {
	if l.GetTop() == 0 || l.Get(1) == vm.LNil {
		l.Push(vm.LNumber(time.Now().Unix()))
		return 1
	}
	t := l.CheckTable(1)
	var parts [6]int
	for i, name := range []string{"year", "month", "day", "hour", "min", "sec"} {
		v := t.RawGetString(name)
		if v == vm.LNil && i >= 3 {
			parts[i] = map[bool]int{true: 12}[name == "hour"]
			continue
		}
		n, ok := v.(vm.LNumber)
		if !ok || math.Abs(float64(n)) > 1e6 {
			l.RaiseError("field '%s' missing or not a sensible number in date table", name)
		}
		parts[i] = int(n)
	}
	l.Push(vm.LNumber(time.Date(parts[0], time.Month(parts[1]), parts[2], parts[3], parts[4], parts[5], 0, time.UTC).Unix()))
	return 1
}

func osDifftime(l *vm.LState) int {
	l.Push(l.CheckNumber(1) - l.OptNumber(2, 0))
	return 1
}

// osDate formats a time in UTC, now if none is given: os.date("%Y-%m-%dT%H:%M:%SZ", t). "*t" gives a table. A leading "!" changes nothing.
func osDate(l *vm.LState) int {
	format := strings.TrimPrefix(l.OptString(1, "%c"), "!")
	seconds := l.OptNumber(2, vm.LNumber(time.Now().Unix()))
	if !(math.Abs(float64(seconds)) < 1e11) {
		l.ArgError(2, "time out of range")
	}
	t := time.Unix(int64(math.Floor(float64(seconds))), 0).UTC()
	if strings.HasPrefix(format, "*t") {
		l.Push(dateTable(l, t))
		return 1
	}
	var out []byte
	for i := 0; i < len(format); i++ {
		if format[i] != '%' {
			out = append(out, format[i])
			continue
		}
		if i++; i == len(format) {
			l.ArgError(1, "invalid conversion specifier '%'")
		}
		text, ok := formatTime(t, format[i])
		if !ok {
			l.ArgError(1, "invalid conversion specifier '%"+format[i:i+1]+"'")
		}
		out = append(out, text...)
		runOf(l).mustSpend(l, 1)
		if len(out) > maxString {
			break
		}
	}
	runOf(l).mustMake(l, len(out))
	l.Push(vm.LString(out))
	return 1
}

func dateTable(l *vm.LState, t time.Time) *vm.LTable {
	out := l.CreateTable(0, 9)
	for name, n := range map[string]int{
		"year": t.Year(), "month": int(t.Month()), "day": t.Day(), "hour": t.Hour(), "min": t.Minute(), "sec": t.Second(),
		"wday": int(t.Weekday()) + 1, "yday": t.YearDay(),
	} {
		out.RawSetString(name, vm.LNumber(n))
	}
	out.RawSetString("isdst", vm.LFalse)
	return out
}

// timeLayouts are the conversions of strftime in the C locale that Go has a layout for.
var timeLayouts = map[byte]string{
	'a': "Mon", 'A': "Monday", 'b': "Jan", 'h': "Jan", 'B': "January", 'c': "Mon Jan _2 15:04:05 2006", 'd': "02", 'D': "01/02/06", 'e': "_2",
	'F': "2006-01-02", 'H': "15", 'I': "03", 'j': "002", 'm': "01", 'M': "04", 'p': "PM", 'r': "03:04:05 PM", 'R': "15:04", 'S': "05",
	'T': "15:04:05", 'x': "01/02/06", 'X': "15:04:05", 'y': "06", 'Y': "2006", 'z': "-0700", 'Z': "MST",
}

func formatTime(t time.Time, conversion byte) (string, bool) {
	if layout, ok := timeLayouts[conversion]; ok {
		return t.Format(layout), true
	}
	switch conversion {
	case '%':
		return "%", true
	case 'n':
		return "\n", true
	case 't':
		return "\t", true
	case 's':
		return strconv.FormatInt(t.Unix(), 10), true
	case 'w':
		return strconv.Itoa(int(t.Weekday())), true
	}
	return "", false
}
