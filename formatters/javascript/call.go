package javascript

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"github.com/dop251/goja"

	"lorikeet/messages"
)

// call is one run of a script in an interpreter of its own. Its methods are for the function that run is given: they leave it by a panic when the
// script throws, is interrupted or is refused.
type call struct {
	*Program
	vm    *goja.Runtime
	shown *goja.Object // the data of the result, for normalizeUplink
	text  goja.Value   // the library of text.js, if it was needed
}

// refusal leaves the function that run was given.
type refusal struct{ err error }

func (c *call) fail(err error) { panic(refusal{err}) }

// run calls do in a fresh interpreter until ctx ends. All that may run a part of the script is done inside do, where it can be interrupted:
// property reads, conversions and the texts of exceptions included.
func (p *Program) run(ctx context.Context, do func(*call)) (err error) {
	if ctx.Err() != nil {
		return timeout(ctx)
	}
	c := &call{Program: p, vm: goja.New()}
	defer context.AfterFunc(ctx, func() { c.vm.Interrupt("time") })()
	defer func() {
		switch r := recover().(type) {
		case nil:
		case refusal:
			err = r.err
		default:
			err = messages.Invalid("formatter_error", "the interpreter failed on the script")
		}
	}()
	c.vm.SetMaxCallStackSize(maxCallDepth)
	if err = c.guard(func() { do(c) }); err == nil {
		return nil
	}
	var exception *goja.Exception
	if !errors.As(err, &exception) {
		return interrupted(ctx, err)
	}
	text := ""
	if err := c.guard(func() { text = c.describe(exception.Value()) }); err != nil {
		if e := interrupted(ctx, err); e != nil {
			return e
		}
	}
	return messages.Invalid("formatter_error", "%s%s%s", text, place(exception), hint(text))
}

// hint says what to do about a global that other places have where scripts run.
func hint(text string) string {
	name, ok := strings.CutPrefix(strings.TrimSuffix(text, " is not defined"), "ReferenceError: ")
	switch {
	case !ok:
		return ""
	case name == "require":
		return ": there are no modules here; put the code into the script (Buffer, atob, TextDecoder are there without)"
	case slices.Contains([]string{"setTimeout", "setInterval", "setImmediate", "fetch", "XMLHttpRequest", "process", "window", "document", "self", "global"}, name):
		return ": scripts have the language alone, no timers, network or page"
	}
	return ""
}

// guard calls f; an exception, an interrupt or a stack overflow in it comes back as an error.
func (c *call) guard(f func()) error {
	wrapped, _ := goja.AssertFunction(c.vm.ToValue(func(goja.FunctionCall) goja.Value {
		f()
		return goja.Undefined()
	}))
	_, err := wrapped(goja.Undefined())
	return err
}

// interrupted makes the error of something other than an exception.
func interrupted(ctx context.Context, err error) error {
	var overflow *goja.StackOverflowError
	var interrupt *goja.InterruptedError
	switch {
	case errors.As(err, &interrupt):
		return timeout(ctx)
	case errors.As(err, &overflow):
		return messages.Invalid("formatter_error", "the script calls itself too deeply: more than %d calls", maxCallDepth)
	}
	return messages.Invalid("formatter_error", "the interpreter failed on the script")
}

// place says on which line of the script an exception was thrown.
func place(e *goja.Exception) string {
	for _, frame := range e.Stack() {
		if frame.SrcName() == scriptName {
			return fmt.Sprintf(" (line %d)", frame.Position().Line)
		}
	}
	return ""
}

func timeout(ctx context.Context) error {
	cause := context.Cause(ctx)
	var ours *messages.Error
	if errors.As(cause, &ours) {
		return ours
	}
	if errors.Is(cause, context.Canceled) {
		return cause
	}
	return messages.Invalid("formatter_limit", "the script did not end in time: simplify it")
}

// load runs the script's top level.
func (c *call) load() {
	c.environment()
	c.vm.SetParserOptions(noSourceMaps) // for eval
	c.program(c.compiled)
}

// program runs one. RunProgram would hide an exception from the function that run was given, so it is thrown again.
func (c *call) program(p *goja.Program) goja.Value {
	v, err := c.vm.RunProgram(p)
	c.check(err)
	return v
}

// check throws an error of the interpreter again.
func (c *call) check(err error) {
	if err != nil {
		panic(err)
	}
}

func (c *call) set(o *goja.Object, name string, v goja.Value) { c.check(o.Set(name, v)) }
func (c *call) global(name string, v goja.Value)              { c.check(c.vm.Set(name, v)) }

// console does nothing: scripts print payloads, and those must not reach a log.
func (c *call) console() goja.Value {
	console, silent := c.vm.NewObject(), c.vm.ToValue(func(goja.FunctionCall) goja.Value { return goja.Undefined() })
	for _, name := range []string{"log", "info", "warn", "error", "debug", "trace", "dir", "table", "assert", "group", "groupEnd", "time", "timeEnd"} {
		c.set(console, name, silent)
	}
	return console
}

// function of a script with the object that it belongs to.
type function struct {
	c     *call
	value goja.Value
	f     goja.Callable
	self  goja.Value
}

func (f function) invoke(args ...goja.Value) goja.Value {
	v, err := f.f(f.self, args...)
	f.c.check(err)
	return v
}

// find looks for a function: a global (top-level const and let included), or a member of driver, exports or module.exports.
func (c *call) find(name string) (function, bool) {
	value := c.vm.Get(name)
	if f, ok := goja.AssertFunction(value); ok {
		return function{c, value, f, goja.Undefined()}, true
	}
	for _, holder := range []goja.Value{c.vm.Get("driver"), c.vm.Get("exports"), c.member(c.vm.Get("module"), "exports")} {
		value := c.member(holder, name)
		if f, ok := goja.AssertFunction(value); ok {
			return function{c, value, f, holder}, true
		}
	}
	return function{}, false
}

// findPortFirst looks for a function of ChirpStack 3. If there is one of the first generation too, which The Things Stack would call, the former must have the
// port as its first parameter: otherwise it is a helper that only has the name.
func (c *call) findPortFirst(name, firstGeneration string) (function, bool) {
	f, ok := c.find(name)
	if !ok {
		return f, false
	}
	if _, both := c.find(firstGeneration); !both {
		return f, true
	}
	return f, portFirst.MatchString(f.value.String())
}

// portFirst is the source of a function, arrow functions included, whose first parameter is a port, or that names none.
var portFirst = regexp.MustCompile(`(?i)^[^(=]*(?:=\s*)?\(?\s*(?:\w*port\w*\s*[,)=]|\))`)

func (c *call) member(holder goja.Value, name string) goja.Value {
	if o, ok := holder.(*goja.Object); ok {
		return o.Get(name)
	}
	return nil
}

var promiseType = reflect.TypeFor[*goja.Promise]()

// settled gives the value of a Promise, and other values as they are. What a Promise waits for was done when the script returned.
func (c *call) settled(v goja.Value) goja.Value {
	o, ok := v.(*goja.Object)
	if !ok || o.ExportType() != promiseType {
		return v
	}
	promise := o.Export().(*goja.Promise)
	switch promise.State() {
	case goja.PromiseStateFulfilled:
		return promise.Result()
	case goja.PromiseStateRejected:
		c.fail(messages.Invalid("formatter_error", "%s", c.describe(promise.Result())))
	}
	c.fail(badOutput("the script returned a Promise that nothing settles: there are no timers and no input to wait for"))
	return nil
}

// describe gives the text of something that was thrown, or stands where a text is expected.
func (c *call) describe(v goja.Value) string {
	o, ok := v.(*goja.Object)
	if !ok {
		return clip(v.String())
	}
	if message, ok := o.Get("message").(goja.String); ok && message.Length() > 0 {
		if name := o.Get("name"); !nothing(name) && name.String() != "Error" {
			return clip(name.String() + ": " + message.String())
		}
		return clip(message.String())
	}
	if o.ClassName() == "Error" {
		return clip(o.String())
	}
	text, err := o.MarshalJSON()
	c.check(err)
	return clip(string(text))
}

// parse keeps the order of keys, as no Go map does.
func (c *call) parse(data json.RawMessage) goja.Value {
	if len(data) == 0 {
		return c.vm.NewObject()
	}
	if !json.Valid(data) {
		c.fail(messages.Invalid("formatter_error", "the data to encode are not valid JSON"))
	}
	parse, _ := goja.AssertFunction(c.member(c.vm.Get("JSON"), "parse"))
	v, err := parse(goja.Undefined(), c.vm.ToValue(string(data)))
	c.check(err)
	return v
}
