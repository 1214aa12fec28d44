package javascript

import (
	_ "embed"
	"strings"
	"sync"
	"time"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/dop251/goja"
)

// What the language itself does not have, or not as Node has it. Each is compiled at its first use in the process.
var (
	//go:embed buffer.js
	bufferSource string
	//go:embed text.js
	textSource string
	//go:embed locale.js
	localeSource string

	// The interpreter's from of typed arrays does not take a text apart.
	fromTextSource = `(function () {
	var typed = Object.getPrototypeOf(Uint8Array), from = typed.from;
	Object.defineProperty(typed, 'from', {writable: true, configurable: true, value: function (source, map, self) {
		return from.call(this, typeof source === 'string' ? Array.from(source) : source, map, self);
	}});
})`

	bufferProgram = library("buffer.js", &bufferSource)
	textProgram   = library("text.js", &textSource)
	localeProgram = library("locale.js", &localeSource)

	fromTextProgram = library("typedarray.js", &fromTextSource)
)

func library(name string, source *string) func() *goja.Program {
	return sync.OnceValue(func() *goja.Program { return goja.MustCompile(name, *source, true) })
}

// environment defines the globals that the script names. Each costs time to make for every call, so a script has only those.
func (c *call) environment() {
	if c.names.module {
		exports, module := c.vm.NewObject(), c.vm.NewObject()
		c.set(module, "exports", exports)
		c.global("exports", exports)
		c.global("module", module)
	}
	if c.names.console {
		c.global("console", c.console())
	}
	if c.names.base64 {
		c.global("atob", c.vm.ToValue(c.atob))
		c.global("btoa", c.vm.ToValue(c.btoa))
	}
	if c.names.buffer {
		c.lazyGlobal("Buffer", c.bufferClass)
	}
	if c.names.text {
		for _, name := range []string{"TextDecoder", "TextEncoder", "structuredClone"} {
			c.lazyGlobal(name, func() goja.Value { return c.member(c.textLibrary(), name) })
		}
	}
	if c.names.typedFrom {
		c.make(fromTextProgram())
	}
	if c.names.locale {
		intl := c.make(localeProgram(), c.vm.ToValue(c.dateParts))
		c.lazyGlobal("Intl", func() goja.Value { return intl })
	}
}

// make calls the function that a library is.
func (c *call) make(library *goja.Program, args ...goja.Value) goja.Value {
	f, _ := goja.AssertFunction(c.program(library))
	v, err := f(goja.Undefined(), args...)
	c.check(err)
	return v
}

// lazyGlobal defines a global that is made when the script first reads it: many scripts name what they use only elsewhere. It can be written and declared
// anew.
func (c *call) lazyGlobal(name string, make func() goja.Value) {
	global := c.vm.GlobalObject()
	settle := func(v goja.Value) {
		c.check(global.DefineDataProperty(name, v, goja.FLAG_TRUE, goja.FLAG_TRUE, goja.FLAG_FALSE))
	}
	get := func(goja.FunctionCall) goja.Value {
		v := make()
		settle(v)
		return v
	}
	set := func(call goja.FunctionCall) goja.Value {
		settle(call.Argument(0))
		return goja.Undefined()
	}
	c.check(global.DefineAccessorProperty(name, c.vm.ToValue(get), c.vm.ToValue(set), goja.FLAG_TRUE, goja.FLAG_FALSE))
}

func (c *call) textLibrary() goja.Value {
	if c.text == nil {
		c.text = c.make(textProgram(), c.vm.ToValue(c.decodeText), c.vm.ToValue(c.encodeText))
	}
	return c.text
}

func (c *call) decodeText(call goja.FunctionCall) goja.Value {
	b, _ := call.Argument(0).Export().([]byte)
	switch call.Argument(1).String() {
	case "latin1":
		out := make([]rune, len(b))
		for i, v := range b {
			out[i] = rune(v)
		}
		return c.vm.ToValue(string(out))
	case "utf-16le":
		units := make([]uint16, len(b)/2)
		for i := range units {
			units[i] = uint16(b[2*i]) | uint16(b[2*i+1])<<8
		}
		return c.vm.ToValue(string(utf16.Decode(units)))
	}
	var out strings.Builder
	for i := 0; i < len(b); {
		r, n := utf8.DecodeRune(b[i:])
		out.WriteRune(r)
		i += n
	}
	return c.vm.ToValue(out.String())
}

func (c *call) encodeText(call goja.FunctionCall) goja.Value {
	return c.vm.ToValue(c.vm.NewArrayBuffer([]byte(strings.ToValidUTF8(call.Argument(0).String(), "\ufffd"))))
}

// dateParts gives [year, month, day, hour, minute, second, weekday] of a time in ms since 1970, in a zone.
func (c *call) dateParts(call goja.FunctionCall) goja.Value {
	zone, err := time.LoadLocation(call.Argument(1).String())
	if err != nil {
		panic(c.rangeError("Invalid time zone specified: " + clip(call.Argument(1).String())))
	}
	t := time.UnixMilli(call.Argument(0).ToInteger()).In(zone)
	year, month, day := t.Date()
	return c.vm.NewArray(year, int(month), day, t.Hour(), t.Minute(), t.Second(), int(t.Weekday()))
}
