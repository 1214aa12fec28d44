package javascript

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/dop251/goja"
	"github.com/dop251/goja/file"
	"github.com/dop251/goja/parser"

	"lorikeet/messages"
)

const (
	scriptName   = "script"
	maxCallDepth = 1024 // calls in calls; a decoder may well recurse for each byte of a payload
)

//go:embed prelude.js
var preludeSource string

//go:embed lookup.js
var lookupSource string

//go:embed buffer.js
var bufferSource string

// own are the programs around a script. They are compiled at the first use: most processes that link this package never run a script.
var own = sync.OnceValue(func() (programs struct{ prelude, lookup, buffer *goja.Program }) {
	programs.prelude = goja.MustCompile("prelude", preludeSource, true)
	programs.lookup = goja.MustCompile("lookup", lookupSource, false)
	programs.buffer = goja.MustCompile("buffer", bufferSource, true)
	return programs
})

// Program is a compiled script. It may be used by many goroutines.
type Program struct {
	program                  *goja.Program
	console, base64, buffers bool // what the source names
}

// Compile parses a script. The error, formatter_compile, names the line.
func Compile(source string) (p *Program, err error) {
	if len(source) > messages.MaxFormatterSource {
		return nil, messages.Invalid("formatter_compile", "the script has %d bytes: use at most %d", len(source), messages.MaxFormatterSource)
	}
	defer func() {
		if recovered := recover(); recovered != nil {
			p, err = nil, messages.Invalid("formatter_compile", "the script can't be compiled: the interpreter failed on it")
		}
	}()
	// Source maps are off because the parser would read the file that a script names.
	tree, err := parser.ParseFile(nil, scriptName, source, 0, parser.WithDisableSourceMaps)
	if err != nil {
		return nil, compileError(err)
	}
	program, err := goja.CompileAST(tree, false)
	if err != nil {
		return nil, compileError(err)
	}
	return &Program{
		program: program, console: strings.Contains(source, "console"), buffers: strings.Contains(source, "Buffer"),
		base64: strings.Contains(source, "atob") || strings.Contains(source, "btoa"),
	}, nil
}

func compileError(err error) error {
	var (
		list   parser.ErrorList
		syntax *goja.CompilerSyntaxError
	)
	position, text := file.Position{}, err.Error()
	switch {
	case errors.As(err, &list) && len(list) > 0:
		position, text = list[0].Position, list[0].Message
	case errors.As(err, &syntax) && syntax.File != nil:
		position, text = syntax.File.Position(syntax.Offset), syntax.Message
	}
	if position.Line == 0 {
		return messages.Invalid("formatter_compile", "the script can't be compiled: %s", clip(text))
	}
	return messages.Invalid("formatter_compile", "the script can't be compiled: line %d, column %d: %s", position.Line, position.Column, clip(text))
}

// DecodeUplink runs the uplink decoder and, if there is one, normalizeUplink. Its errors are of the script: formatter_script, formatter_errors,
// formatter_output, formatter_output_too_large, formatter_function_missing, formatter_timeout (ctx ended).
func (p *Program) DecodeUplink(ctx context.Context, in messages.DecodeInput) (messages.Decoded, error) {
	return p.decode(ctx, "decodeUplink", in)
}

// DecodeDownlink is DecodeUplink for what is sent to a device. Only decodeDownlink(input) is looked for.
func (p *Program) DecodeDownlink(ctx context.Context, in messages.DecodeInput) (messages.Decoded, error) {
	return p.decode(ctx, "decodeDownlink", in)
}

func (p *Program) decode(ctx context.Context, operation string, in messages.DecodeInput) (messages.Decoded, error) {
	lines, err := p.call(ctx, func(vm *goja.Runtime) []goja.Value {
		bytes := make([]any, len(in.Bytes))
		for i, b := range in.Bytes {
			bytes[i] = int64(b)
		}
		return []goja.Value{vm.ToValue(operation), vm.NewArray(bytes...), vm.ToValue(int64(in.FPort)), vm.ToValue(in.RecvTime.UnixMilli())}
	})
	if err != nil {
		return messages.Decoded{}, err
	}
	return decodedOf(lines)
}

// EncodeDownlink runs the downlink encoder. Its errors are those of DecodeUplink.
func (p *Program) EncodeDownlink(ctx context.Context, in messages.EncodeInput) (messages.Encoded, error) {
	data := string(in.Data)
	if data == "" {
		data = "{}"
	}
	if !json.Valid([]byte(data)) {
		return messages.Encoded{}, messages.Invalid("formatter_input", "the data to encode are not valid JSON")
	}
	lines, err := p.call(ctx, func(vm *goja.Runtime) []goja.Value {
		return []goja.Value{vm.ToValue("encodeDownlink"), goja.Undefined(), vm.ToValue(int64(in.FPort)), goja.Undefined(), vm.ToValue(data)}
	})
	if err != nil {
		return messages.Encoded{}, err
	}
	return encodedOf(lines)
}

// call gives the lines of prelude.js. Everything that may run a part of the script, down to the texts of its exceptions, happens while the
// interpreter can be interrupted.
func (p *Program) call(ctx context.Context, arguments func(*goja.Runtime) []goja.Value) (lines []string, err error) {
	vm := goja.New()
	defer context.AfterFunc(ctx, func() { vm.Interrupt("time") })()
	defer func() {
		if recovered := recover(); recovered != nil {
			lines, err = nil, messages.Invalid("formatter_script", "the interpreter failed on the script")
		}
	}()
	vm.SetMaxCallStackSize(maxCallDepth)
	vm.SetParserOptions(parser.WithDisableSourceMaps)
	c := &call{vm: vm}
	result, err := c.run(p, arguments)
	if err != nil {
		return nil, c.explain(ctx, err)
	}
	text, ok := result.(goja.String)
	switch {
	case !ok:
		return nil, messages.Invalid("formatter_output", "the script's output can't be read")
	case text.Length() > 2*messages.MaxFormatterOutput:
		return nil, tooLarge()
	}
	return strings.Split(text.String(), "\n"), nil
}

// call is one run of a script.
type call struct {
	vm       *goja.Runtime
	describe goja.Callable
}

func (c *call) run(p *Program, arguments func(*goja.Runtime) []goja.Value) (goja.Value, error) {
	prelude, err := c.vm.RunProgram(own().prelude)
	if err != nil {
		return nil, err
	}
	functions := prelude.ToObject(c.vm)
	start, _ := goja.AssertFunction(functions.Get("start"))
	resume, _ := goja.AssertFunction(functions.Get("resume"))
	c.describe, _ = goja.AssertFunction(functions.Get("describe"))
	if err := c.provide(p); err != nil {
		return nil, err
	}
	if _, err := c.vm.RunProgram(p.program); err != nil {
		return nil, err
	}
	found, err := c.vm.RunProgram(own().lookup)
	if err != nil {
		return nil, err
	}
	result, err := start(goja.Undefined(), append([]goja.Value{found}, arguments(c.vm)...)...)
	if err != nil {
		return nil, err
	}
	promise, ok := result.Export().(*goja.Promise)
	if !ok {
		return result, nil
	}
	switch promise.State() { // the jobs of the runtime were done when start returned
	case goja.PromiseStateFulfilled:
		return resume(goja.Undefined(), promise.Result())
	case goja.PromiseStateRejected:
		return nil, rejection{promise.Result()}
	}
	return nil, messages.Invalid("formatter_output", "the script returned a Promise that nothing settles: there are no timers and no input to wait for")
}

// provide sets the globals that the language doesn't have.
func (c *call) provide(p *Program) error {
	exports, module := c.vm.NewObject(), c.vm.NewObject()
	errs := []error{module.Set("exports", exports), c.vm.Set("exports", exports), c.vm.Set("module", module)}
	if p.console {
		errs = append(errs, c.vm.Set("console", c.console()))
	}
	if p.base64 {
		errs = append(errs, c.vm.Set("atob", c.atob), c.vm.Set("btoa", c.btoa))
	}
	if p.buffers {
		class, err := c.vm.RunProgram(own().buffer)
		errs = append(errs, err, c.vm.Set("Buffer", class))
	}
	return errors.Join(errs...)
}

func (c *call) console() *goja.Object {
	console, silent := c.vm.NewObject(), c.vm.ToValue(func(goja.FunctionCall) goja.Value { return goja.Undefined() })
	for _, name := range []string{"log", "info", "warn", "error", "debug", "trace", "dir", "table", "assert", "group", "groupEnd", "time", "timeEnd"} {
		_ = console.Set(name, silent) // fails only on objects that are frozen
	}
	return console
}

// rejection is the reason of a rejected Promise.
type rejection struct{ reason goja.Value }

func (rejection) Error() string { return "rejected" }

// explain makes the error that the user sees of what the interpreter gave.
func (c *call) explain(ctx context.Context, err error) error {
	var (
		ours      *messages.Error
		exception *goja.Exception
		interrupt *goja.InterruptedError
		overflow  *goja.StackOverflowError
		rejected  rejection
	)
	switch {
	case errors.As(err, &interrupt):
		return timeout(ctx)
	case errors.As(err, &overflow):
		return messages.Invalid("formatter_script", "the script calls itself too deeply: more than %d calls", maxCallDepth)
	case errors.As(err, &rejected):
		return c.thrown(ctx, rejected.reason, "")
	case errors.As(err, &ours) && !errors.As(err, &exception):
		return err
	case errors.As(err, &exception):
		return c.thrown(ctx, exception.Value(), place(exception))
	}
	return messages.Invalid("formatter_script", "the interpreter failed on the script")
}

// thrown asks the prelude for the text of an exception: making it may run code of the script.
func (c *call) thrown(ctx context.Context, value goja.Value, place string) error {
	text := "the script failed"
	if c.describe != nil && value != nil {
		described, err := c.describe(goja.Undefined(), value)
		var interrupt *goja.InterruptedError
		if errors.As(err, &interrupt) {
			return timeout(ctx)
		}
		if s, ok := described.(goja.String); err == nil && ok {
			text = clip(s.String())
		}
	}
	return messages.Invalid("formatter_script", "%s%s", text, place)
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
	return messages.Invalid("formatter_timeout", "the script did not end in time: simplify it")
}

func tooLarge() error {
	return messages.Invalid("formatter_output_too_large", "the script's output is larger than %d bytes: return less", messages.MaxFormatterOutput)
}

// clip bounds a text for people.
func clip(s string) string {
	const most = 1 << 10
	if len(s) > most {
		s = s[:most]
	}
	return strings.ToValidUTF8(s, "?")
}
