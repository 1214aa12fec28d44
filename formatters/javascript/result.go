package javascript

import (
	"encoding/json"
	"errors"
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

	maxMeasurements = 256 // of one uplink
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

// data may be missing, as The Things Stack has it: there is nothing to tell then but the warnings.
func (c *call) data(v goja.Value, warnings []string) messages.Decoded {
	if nothing(v) {
		return messages.Decoded{Data: json.RawMessage("{}"), Warnings: warnings}
	}
	o, ok := v.(*goja.Object)
	if !ok {
		reason := ""
		if len(warnings) > 0 {
			reason = " (" + warnings[0] + ")"
		}
		c.fail(badOutput("data must be an object, not %s%s", kindOf(v), reason))
	}
	c.shown = o
	return messages.Decoded{Data: c.object("data", o), Warnings: warnings}
}

// verdict fails the call if the script says that it failed, and gives the warnings.
func (c *call) verdict(o *goja.Object) (warnings []string) {
	if failures := c.texts("errors", o.Get("errors")); len(failures) > 0 {
		c.fail(messages.Invalid("formatter_error", "%s", clip(strings.Join(failures, "; "))))
	}
	return c.texts("warnings", o.Get("warnings"))
}

// texts reads an array of strings. A string alone is taken as one; what counts as false (null, false, "", 0) is none.
func (c *call) texts(what string, v goja.Value) []string {
	if v == nil || !v.ToBoolean() {
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

// normalize adds what normalizeUplink({data}) returns: one object or a list of them. Normalized stays nil if the script has no such function.
// The error says why it failed; what was decoded stands.
func (c *call) normalize(d *messages.Decoded) (err error) {
	if !c.names.normalize || c.shown == nil {
		return nil
	}
	f, ok := c.find("normalizeUplink")
	if !ok {
		return nil
	}
	d.Normalized = []json.RawMessage{}
	if exception := c.vm.Try(func() { err = c.refused(func() { c.measurements(f, d) }) }); exception != nil {
		err = messages.Invalid("formatter_error", "%s%s", c.describe(exception.Value()), place(exception))
	}
	var ours *messages.Error
	if errors.As(err, &ours) {
		d.Normalized, d.NormalizedWarnings = nil, nil
		return messages.Errorf(ours.Code, ours.Name, "normalizeUplink: %s", ours.Message)
	}
	return err
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
	if nothing(list[0]) {
		return // nothing to tell
	}
	if array, ok := list[0].(*goja.Object); ok && isArray(array) {
		if n := c.length(array); n > maxMeasurements {
			c.fail(badOutput("%d measurements are too many: return at most %d", n, maxMeasurements))
		}
		list = list[:0]
		for i := range c.length(array) {
			list = append(list, array.Get(strconv.FormatInt(i, 10)))
		}
	}
	size := len(d.Data)
	for _, v := range list {
		one, ok := v.(*goja.Object)
		if !ok || isArray(one) {
			c.fail(badOutput("data must be an object or an array of objects"))
		}
		text := c.object("data", one)
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
		if n := wrap(v); n > 0 {
			e.FPort = n
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
		out[i] = wrap(o.Get(strconv.Itoa(i)))
	}
	return out
}

// wrap is v & 255, as a typed array takes it: what is no number is 0.
func wrap(v goja.Value) byte {
	if nothing(v) {
		return 0
	}
	f := v.ToFloat()
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return 0
	}
	return byte(int64(math.Mod(math.Trunc(f), 256)))
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
