package javascript

import (
	"encoding/json"
	"math"
	"reflect"
	"strconv"
	"strings"

	"github.com/dop251/goja"

	"lorikeet/messages"
)

const (
	maxDepth = 32 // of objects and arrays in a result: readers of JSON have limits of their own
	maxBytes = 1 << 10
)

// decoded reads {data, warnings, errors}.
func (c *call) decoded(function string, result goja.Value) messages.Decoded {
	o, ok := result.(*goja.Object)
	if !ok {
		c.fail(badOutput("%s must return an object, not %s", function, kindOf(result)))
	}
	warnings := c.verdict(o)
	data := o.Get("data")
	if data == nil && o.Get("warnings") == nil && o.Get("errors") == nil {
		data = o
		warnings = append(warnings, function+" returned an object without data; it is taken as the data")
	}
	return c.data(data, warnings)
}

// decodedBare reads what the functions that are older than TS013 return: the data.
func (c *call) decodedBare(result goja.Value) messages.Decoded { return c.data(result, nil) }

func (c *call) data(v goja.Value, warnings []string) messages.Decoded {
	o, ok := v.(*goja.Object)
	if !ok {
		reason := ""
		if len(warnings) > 0 {
			reason = " (" + warnings[0] + ")"
		}
		c.fail(badOutput("data must be an object, not %s%s", kindOf(v), reason))
	}
	o = c.asObject(o)
	d := messages.Decoded{Data: c.json("data", o), Warnings: warnings}
	// JSON has no NaN and no infinity, and says null. Only then is it worth looking.
	if strings.Contains(string(d.Data), "null") {
		if at, found := c.nonFinite(o, "", 0); found {
			d.Warnings = append(d.Warnings, clip(at)+" is not a finite number; it is sent as null")
		}
	}
	c.shown = o
	return d
}

// verdict fails the call if the script says that it failed, and gives the warnings.
func (c *call) verdict(o *goja.Object) (warnings []string) {
	if failures := c.texts("errors", o.Get("errors")); len(failures) > 0 {
		c.fail(messages.Invalid("formatter_error", "%s", clip(strings.Join(failures, "; "))))
	}
	return c.texts("warnings", o.Get("warnings"))
}

// texts reads an array of strings. A string alone is taken as one.
func (c *call) texts(what string, v goja.Value) []string {
	if nothing(v) {
		return nil
	}
	if s, ok := v.(goja.String); ok {
		return []string{clip(s.String())}
	}
	o, ok := v.(*goja.Object)
	if !ok || !indexed(o) {
		c.fail(badOutput("%s must be an array of strings, not %s", what, kindOf(v)))
	}
	var out []string
	for i := range min(c.length(o), maxTexts) {
		if item := o.Get(strconv.FormatInt(i, 10)); item != nil {
			out = append(out, c.describe(item))
		}
	}
	return out
}

// json is the text as JSON.stringify makes it.
func (c *call) json(what string, o *goja.Object) json.RawMessage {
	text, err := o.MarshalJSON()
	c.check(err)
	switch {
	case len(text) == 0 || text[0] != '{': // toJSON of a script can give anything
		c.fail(badOutput("%s must be an object", what))
	case len(text) > messages.MaxFormatterOutput:
		c.fail(tooLarge())
	case depth(text) > maxDepth:
		c.fail(badOutput("%s is nested deeper than %d levels", what, maxDepth))
	}
	return text
}

// asObject makes an object with the keys "0", "1", ... of an array.
func (c *call) asObject(o *goja.Object) *goja.Object {
	if !isArray(o) {
		return o
	}
	out := c.vm.NewObject()
	for _, key := range o.Keys() {
		c.set(out, key, o.Get(key))
	}
	return out
}

// nonFinite finds a number that JSON can't hold, and gives its path.
func (c *call) nonFinite(v goja.Value, path string, level int) (string, bool) {
	o, ok := v.(*goja.Object)
	if !ok {
		return path, v != nil && goja.IsNumber(v) && (math.IsNaN(v.ToFloat()) || math.IsInf(v.ToFloat(), 0))
	}
	if level > maxDepth {
		return "", false
	}
	for _, key := range o.Keys() {
		at := key
		if path != "" {
			at = path + "." + key
		}
		if at, found := c.nonFinite(o.Get(key), at, level+1); found {
			return at, true
		}
	}
	return "", false
}

// normalize adds what normalizeUplink({data}) returns: one object or a list of them. If it fails the decoded data stand as they are, and the reason is a warning.
func (c *call) normalize(d *messages.Decoded) {
	if !c.names.normalize {
		return
	}
	f, ok := c.find("normalizeUplink")
	if !ok {
		return
	}
	var err error
	if exception := c.vm.Try(func() { err = c.refused(func() { c.measurements(f, d) }) }); exception != nil {
		err = messages.Invalid("formatter_error", "%s%s", c.describe(exception.Value()), place(exception))
	}
	if err != nil {
		d.Normalized, d.NormalizedWarnings = nil, []string{"normalizeUplink: " + err.Error()}
	}
}

// refused gives the error of a refusal in f, and lets other panics pass.
func (c *call) refused(f func()) (err error) {
	defer func() {
		switch r := recover().(type) {
		case nil:
		case refusal:
			err = r.err
		default:
			panic(r)
		}
	}()
	f()
	return nil
}

func (c *call) measurements(f function, d *messages.Decoded) {
	input := c.vm.NewObject()
	c.set(input, "data", c.shown)
	result := c.settled(f.invoke(input))
	o, ok := result.(*goja.Object)
	if !ok {
		c.fail(badOutput("it must return {data: ...}, not %s", kindOf(result)))
	}
	d.NormalizedWarnings = c.verdict(o)
	list := []goja.Value{o.Get("data")}
	if array, ok := list[0].(*goja.Object); ok && isArray(array) {
		list = list[:0]
		for i := range min(c.length(array), maxTexts) {
			list = append(list, array.Get(strconv.FormatInt(i, 10)))
		}
	}
	size := len(d.Data)
	for _, v := range list {
		one, ok := v.(*goja.Object)
		if !ok || isArray(one) {
			c.fail(badOutput("data must be an object or an array of objects"))
		}
		text := c.json("data", one)
		if size += len(text); size > messages.MaxFormatterOutput {
			c.fail(tooLarge())
		}
		d.Normalized = append(d.Normalized, text)
	}
}

// encoded reads {bytes, fPort, warnings, errors}.
func (c *call) encoded(result goja.Value, requested uint8) messages.Encoded {
	o, ok := result.(*goja.Object)
	if !ok || indexed(o) {
		c.fail(badOutput("encodeDownlink must return an object with bytes, not %s", kindOf(result)))
	}
	e := messages.Encoded{Warnings: c.verdict(o), FPort: requested}
	if v := o.Get("fPort"); !nothing(v) {
		n := v.ToFloat()
		if n != math.Trunc(n) || n < 0 || n > 255 {
			c.fail(badOutput("fPort must be an integer of 1 to 255, not %v", n))
		}
		if n > 0 {
			e.FPort = uint8(n)
		}
	}
	e.FPort = max(e.FPort, 1)
	e.Bytes = c.bytes(o.Get("bytes"))
	return e
}

// encodedBare reads what the functions that are older than TS013 return: the bytes, or what encoded reads.
func (c *call) encodedBare(result goja.Value, requested uint8) messages.Encoded {
	if o, ok := result.(*goja.Object); ok && !indexed(o) {
		return c.encoded(result, requested)
	}
	return messages.Encoded{Bytes: c.bytes(result), FPort: max(requested, 1)}
}

// bytes of an array, a typed array or a Buffer, each modulo 256; of a string in UTF-8.
func (c *call) bytes(v goja.Value) []byte {
	if s, ok := v.(goja.String); ok && s.Length() <= maxBytes {
		return []byte(s.String())
	}
	o, ok := v.(*goja.Object)
	if !ok || !indexed(o) {
		c.fail(badOutput("bytes must be an array of numbers, not %s", kindOf(v)))
	}
	n := c.length(o)
	if n > maxBytes {
		c.fail(badOutput("bytes has %d bytes: a downlink has at most 242", n))
	}
	out := make([]byte, n)
	for i := range out {
		item := o.Get(strconv.Itoa(i))
		if nothing(item) {
			continue // as & 255 does
		}
		if f := item.ToFloat(); !math.IsNaN(f) && !math.IsInf(f, 0) {
			out[i] = byte(int64(math.Mod(math.Trunc(f), 256)))
		}
	}
	return out
}

func (c *call) length(o *goja.Object) int64 {
	if n := o.Get("length"); n != nil {
		return max(n.ToInteger(), 0)
	}
	return 0
}

func nothing(v goja.Value) bool { return v == nil || goja.IsUndefined(v) || goja.IsNull(v) }

func isArray(o *goja.Object) bool { return o.ClassName() == "Array" }

// indexed says that o is an array or a typed array.
func indexed(o *goja.Object) bool {
	t := o.ExportType()
	return isArray(o) || t != nil && t.Kind() == reflect.Slice
}

func kindOf(v goja.Value) string {
	switch o, ok := v.(*goja.Object); {
	case v == nil || goja.IsUndefined(v):
		return "undefined"
	case goja.IsNull(v):
		return "null"
	case ok && indexed(o):
		return "an array"
	case ok:
		return "an object"
	}
	if _, ok := v.(goja.String); ok {
		return "a string"
	}
	if goja.IsNumber(v) {
		return "a number"
	}
	return "a " + v.ExportType().String()
}

// depth of a valid JSON text.
func depth(text []byte) int {
	level, deepest, inString := 0, 0, false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case inString && c == '\\':
			i++
		case c == '"':
			inString = !inString
		case inString:
		case c == '{' || c == '[':
			level++
			deepest = max(deepest, level)
		case c == '}' || c == ']':
			level--
		}
	}
	return deepest
}
