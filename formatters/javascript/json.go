package javascript

import (
	"encoding/json"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/dop251/goja"

	"lorikeet/messages"
)

// jsonWriter writes what a script returned, as JSON.stringify does it, with what The Things Stack does differently: undefined members are null, and a number
// that is not finite fails the call. It runs the script's getters, proxies and toJSON functions, so it works only inside call.run.
type jsonWriter struct {
	c    *call
	buf  []byte
	path []string
	open []*goja.Object // those that are being written, to find cycles
}

// object writes a value that must come out as an object. what is the name of the value in errors.
func (c *call) object(what string, o *goja.Object) json.RawMessage {
	w := jsonWriter{c: c, path: []string{what}}
	if isArray(o) {
		w.members(o, true)
	} else {
		w.value(o)
	}
	if len(w.buf) == 0 || w.buf[0] != '{' { // toJSON of a script can give anything
		c.fail(badOutput("%s must be an object", what))
	}
	return w.buf
}

func (w *jsonWriter) at() string { return clip(strings.Join(w.path, ".")) }

// value says whether there was something to write: functions and symbols are nothing.
func (w *jsonWriter) value(v goja.Value) bool {
	if len(w.buf) > messages.MaxFormatterOutput {
		w.c.fail(tooLarge())
	}
	if o, ok := v.(*goja.Object); ok {
		return w.complex(o)
	}
	switch {
	case nothing(v):
		w.buf = append(w.buf, "null"...)
	case goja.IsString(v):
		w.text(v)
	case goja.IsNumber(v):
		w.number(v)
	case goja.IsBigInt(v):
		w.c.fail(badOutput("%s is a BigInt, which JSON does not have: return Number(x) or String(x)", w.at()))
	default:
		text := v.String()
		if text != "true" && text != "false" {
			return false // a symbol
		}
		w.buf = append(w.buf, text...)
	}
	return true
}

func (w *jsonWriter) number(v goja.Value) {
	f := v.ToFloat()
	switch {
	case math.IsNaN(f) || math.IsInf(f, 0):
		w.c.fail(badOutput("%s is %s, which JSON does not have: return null or leave it out", w.at(), v))
	case f == math.Trunc(f) && math.Abs(f) < 1<<53:
		w.buf = strconv.AppendInt(w.buf, int64(f), 10)
	default:
		w.buf = append(w.buf, v.String()...)
	}
}

// complex writes an object, or what it stands for.
func (w *jsonWriter) complex(o *goja.Object) bool {
	if toJSON, ok := goja.AssertFunction(o.Get("toJSON")); ok {
		v, err := toJSON(o, w.c.vm.ToValue(w.path[len(w.path)-1]))
		w.c.check(err)
		other, ok := v.(*goja.Object)
		if !ok {
			return w.value(v)
		}
		o = other
	}
	switch o.ClassName() {
	case "Function":
		return false
	case "Number":
		w.number(o.ToNumber())
		return true
	case "String":
		w.text(o.ToString())
		return true
	case "Boolean":
		w.buf = strconv.AppendBool(w.buf, o.Export() == true)
		return true
	}
	w.members(o, false)
	return true
}

// members writes those of an object or array; asObject makes an array an object with the keys "0", "1", ...
func (w *jsonWriter) members(o *goja.Object, asObject bool) {
	if slices.Contains(w.open, o) {
		w.c.fail(badOutput("%s is circular: it contains itself", w.at()))
	}
	if len(w.open) == maxDepth {
		w.c.fail(badOutput("%s is nested deeper than %d levels", w.path[0], maxDepth))
	}
	w.open = append(w.open, o)
	switch {
	case !isArray(o):
		w.braced(func(member func(string, goja.Value)) {
			for _, key := range o.Keys() {
				member(key, o.Get(key))
			}
		})
	case asObject:
		w.braced(func(member func(string, goja.Value)) {
			for i := range w.c.length(o) {
				key := strconv.FormatInt(i, 10)
				member(key, o.Get(key))
			}
		})
	default:
		w.elements(o)
	}
	w.open = w.open[:len(w.open)-1]
}

func (w *jsonWriter) braced(each func(member func(string, goja.Value))) {
	w.buf = append(w.buf, '{')
	first := len(w.buf)
	each(func(key string, v goja.Value) {
		begin := len(w.buf)
		if begin > first {
			w.buf = append(w.buf, ',')
		}
		w.buf = append(appendText(w.buf, key), ':')
		w.path = append(w.path, key)
		if !w.value(v) {
			w.buf = w.buf[:begin]
		}
		w.path = w.path[:len(w.path)-1]
	})
	w.buf = append(w.buf, '}')
}

func (w *jsonWriter) elements(o *goja.Object) {
	w.buf = append(w.buf, '[')
	for i := range w.c.length(o) {
		if i > 0 {
			w.buf = append(w.buf, ',')
		}
		key := strconv.FormatInt(i, 10)
		w.path = append(w.path, key)
		if !w.value(o.Get(key)) {
			w.buf = append(w.buf, "null"...)
		}
		w.path = w.path[:len(w.path)-1]
	}
	w.buf = append(w.buf, ']')
}

// text writes a string. Halves of surrogate pairs are escaped, as UTF-8 does not have them.
func (w *jsonWriter) text(v goja.Value) {
	s, ok := v.(goja.String)
	if !ok || s.Length() > messages.MaxFormatterOutput {
		w.c.fail(tooLarge())
	}
	text := s.String()
	if !strings.ContainsRune(text, utf8.RuneError) {
		w.buf = appendText(w.buf, text)
		return
	}
	w.buf = append(w.buf, '"')
	n := s.Length()
	for i := 0; i < n; i++ {
		unit := rune(s.CharAt(i))
		switch {
		case unit < 0xd800 || unit > 0xdfff:
			w.buf = appendRune(w.buf, unit)
		case unit < 0xdc00 && i+1 < n && s.CharAt(i+1)&0xfc00 == 0xdc00:
			i++
			w.buf = utf8.AppendRune(w.buf, 0x10000+(unit-0xd800)<<10+rune(s.CharAt(i))-0xdc00)
		default:
			w.buf = append(append(w.buf, `\u`...), strconv.FormatInt(int64(unit), 16)...)
		}
	}
	w.buf = append(w.buf, '"')
}

func appendText(b []byte, text string) []byte {
	b = append(b, '"')
	for _, r := range text {
		b = appendRune(b, r)
	}
	return append(b, '"')
}

func appendRune(b []byte, r rune) []byte {
	const hex = "0123456789abcdef"
	switch {
	case r == '"' || r == '\\':
		return append(b, '\\', byte(r))
	case r >= ' ':
		return utf8.AppendRune(b, r)
	}
	if i := strings.IndexRune("\b\t\n\f\r", r); i >= 0 {
		return append(b, '\\', "btnfr"[i])
	}
	return append(b, '\\', 'u', '0', '0', hex[r>>4], hex[r&15])
}
