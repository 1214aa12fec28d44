package javascript

import (
	"context"
	"errors"
	"regexp"
	"strings"

	"github.com/dop251/goja"
	"github.com/dop251/goja/file"
	"github.com/dop251/goja/parser"

	"lorikeet/messages"
)

const (
	scriptName   = "script"
	maxCallDepth = 1024 // calls in calls; a decoder may well recurse for each byte of a payload
	maxText      = 1 << 10
	maxTexts     = 64 // warnings or errors
)

// noSourceMaps: the parser would read the file that a script names.
var noSourceMaps parser.Option = parser.WithDisableSourceMaps

// Program is a compiled script. It may be used by many goroutines.
type Program struct {
	compiled *goja.Program
	names    names
}

// names are what the source mentions.
type names struct {
	console, base64, buffer, text, locale, module bool // globals
	typedFrom                                     bool // Uint8Array.from and the like
	recvTime, normalize, fCnt, radio, device      bool
}

var typedFrom = regexp.MustCompile(`(?:8|16|32|64|Clamped)Array\.from\b`)

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
	program, err := compile(source)
	if err != nil {
		return nil, compileError(err)
	}
	mentions := func(name string) bool { return strings.Contains(source, name) }
	return &Program{compiled: program, names: names{
		console: mentions("console"), base64: mentions("atob") || mentions("btoa"), buffer: mentions("Buffer"),
		text: mentions("TextDecoder") || mentions("TextEncoder") || mentions("structuredClone"), typedFrom: typedFrom.MatchString(source), locale: mentions("toLocaleString") || mentions("toLocaleDate") || mentions("toLocaleTime") || mentions("Intl"),
		module: mentions("module") || mentions("export"), recvTime: mentions("recvTime"), normalize: mentions("normalizeUplink"),
		fCnt: mentions("fCnt") || mentions("f_cnt"), radio: mentions("rssi") || mentions("snr"), device: mentions("device"),
	}}, nil
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

// DecodeUplink runs the uplink decoder and, if there is one, normalizeUplink: if only that fails, the decoded data come with the error. Normalized is nil if
// there is none. Errors are named formatter_error (the script threw or returned errors), formatter_output (what it returned can't be used),
// formatter_function (it has no decoder) and formatter_limit (ctx ended).
func (p *Program) DecodeUplink(ctx context.Context, in messages.DecodeInput) (d messages.Decoded, err error) {
	var normalization error
	err = p.run(ctx, func(c *call) {
		input := c.decodeInput(in)
		c.load()
		if f, ok := c.find("decodeUplink"); ok {
			d = c.decoded("decodeUplink", c.settled(f.invoke(input.object())))
		} else if f, ok := c.findPortFirst("Decode", "Decoder"); ok {
			d = c.decodedBare(c.settled(f.invoke(input.fPort, input.bytes, input.variables)))
		} else if f, ok := c.find("Decoder"); ok {
			d = c.decodedBare(c.settled(f.invoke(input.bytes, input.fPort)))
		} else {
			c.fail(missing("decodeUplink(input)"))
		}
		normalization = c.normalize(&d)
	})
	if err != nil {
		return messages.Decoded{}, err
	}
	return d, normalization
}

// DecodeDownlink is DecodeUplink for what is sent to a device. Only decodeDownlink(input) is looked for.
func (p *Program) DecodeDownlink(ctx context.Context, in messages.DecodeInput) (d messages.Decoded, err error) {
	err = p.run(ctx, func(c *call) {
		input := c.decodeInput(in)
		c.load()
		f, ok := c.find("decodeDownlink")
		if !ok {
			c.fail(missing("decodeDownlink(input)"))
		}
		d = c.decoded("decodeDownlink", c.settled(f.invoke(input.object())))
	})
	return d, err
}

// EncodeDownlink runs the downlink encoder. Its errors are those of DecodeUplink, and formatter_input if the data are no JSON.
func (p *Program) EncodeDownlink(ctx context.Context, in messages.EncodeInput) (e messages.Encoded, err error) {
	err = p.run(ctx, func(c *call) {
		input := c.encodeInput(in)
		c.load()
		if f, ok := c.find("encodeDownlink"); ok {
			e = c.encoded(c.settled(f.invoke(input.object())), in.FPort)
		} else if f, ok := c.findPortFirst("Encode", "Encoder"); ok {
			e = c.encodedBare(c.settled(f.invoke(input.fPort, input.data, input.variables)), in.FPort)
		} else if f, ok := c.find("Encoder"); ok {
			e = c.encodedBare(c.settled(f.invoke(input.data, input.fPort)), in.FPort)
		} else {
			c.fail(missing("encodeDownlink(input)"))
		}
	})
	return e, err
}

func missing(function string) error {
	return messages.Invalid("formatter_function", "the script has no function %s: define it", function)
}

func tooLarge() error {
	return messages.Invalid("formatter_output", "the script's output is larger than %d bytes: return less", messages.MaxFormatterOutput)
}

func badOutput(format string, args ...any) error {
	return messages.Invalid("formatter_output", format, args...)
}

// clip bounds a text for people.
func clip(s string) string {
	if len(s) > maxText {
		s = s[:maxText]
	}
	return strings.ToValidUTF8(s, "?")
}
