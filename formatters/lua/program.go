package lua

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	vm "github.com/yuin/gopher-lua"

	"lorikeet/messages"
)

// Program is a compiled script. It is immutable: any number of goroutines may use it, and no call sees another one's changes.
type Program struct {
	proto  *vm.FunctionProto
	env    environment
	device bool // the source names input.device, or walks over what it is given
}

// Compile reads a script. It refuses what it can't compile, and what would take a compiler too long, with an error named formatter_compile that says in which line.
func Compile(source string) (*Program, error) {
	if len(source) > messages.MaxFormatterSource {
		return nil, compileError(0, "the script has %d bytes, more than %d: shorten it", len(source), messages.MaxFormatterSource)
	}
	text, lastLine, err := checkTokens(source)
	if err != nil {
		return nil, err
	}
	p, err := compile(text, lastLine)
	if p != nil {
		p.device = strings.Contains(source, "device") || strings.Contains(source, "pairs") || strings.Contains(source, "next")
	}
	return p, err
}

// DecodeUplink runs decodeUplink and, if the script has it, normalizeUplink. If only the latter fails, the decoded data come with the error, unless it is
// about a limit. Normalized is nil if there is no normalizeUplink.
func (p *Program) DecodeUplink(ctx context.Context, in messages.DecodeInput) (messages.Decoded, error) {
	return deepening(func(depth int) (messages.Decoded, error) { return p.decodeUplink(ctx, depth, in) })
}

func (p *Program) decodeUplink(ctx context.Context, depth int, in messages.DecodeInput) (messages.Decoded, error) {
	s, err := p.start(ctx, depth)
	if err != nil {
		return messages.Decoded{}, err
	}
	defer s.vm.Close()
	out, data, err := s.decode("decodeUplink", in)
	if err != nil || s.vm.G.Global.RawGetString("normalizeUplink") == vm.LNil {
		return out, err
	}
	normalized, warnings, err := s.normalize(data)
	var reason *messages.Error
	switch {
	case err == nil:
		out.Normalized, out.NormalizedWarnings = normalized, warnings
		return out, nil
	case errors.As(err, &reason) && reason.Name != "formatter_limit":
		return out, messages.Errorf(reason.Code, reason.Name, "normalizeUplink: %s", strings.TrimPrefix(reason.Message, "normalizeUplink: "))
	}
	return messages.Decoded{}, err
}

// DecodeDownlink runs decodeDownlink.
func (p *Program) DecodeDownlink(ctx context.Context, in messages.DecodeInput) (messages.Decoded, error) {
	return deepening(func(depth int) (messages.Decoded, error) {
		s, err := p.start(ctx, depth)
		if err != nil {
			return messages.Decoded{}, err
		}
		defer s.vm.Close()
		out, _, err := s.decode("decodeDownlink", in)
		return out, err
	})
}

// EncodeDownlink runs encodeDownlink.
func (p *Program) EncodeDownlink(ctx context.Context, in messages.EncodeInput) (messages.Encoded, error) {
	return deepening(func(depth int) (messages.Encoded, error) { return p.encodeDownlink(ctx, depth, in) })
}

func (p *Program) encodeDownlink(ctx context.Context, depth int, in messages.EncodeInput) (messages.Encoded, error) {
	s, err := p.start(ctx, depth)
	if err != nil {
		return messages.Encoded{}, err
	}
	defer s.vm.Close()
	data, err := s.fromJSON(in.Data)
	if err != nil {
		return messages.Encoded{}, messages.Invalid("formatter_error", "decoded_payload: %w", err)
	}
	result, err := s.call("encodeDownlink", s.encodeInput(data, in))
	if err != nil {
		return messages.Encoded{}, err
	}
	return s.encoded(result, in.FPort)
}

// session is a virtual machine with the script loaded, for one call.
type session struct {
	*run
	vm     *vm.LState
	device bool
}

func (p *Program) start(ctx context.Context, depth int) (*session, error) {
	return p.startRun(newRun(ctx, depth))
}

func (p *Program) startRun(r *run) (*session, error) {
	s := &session{run: r, device: p.device}
	s.vm = newState(s.run, p.env)
	s.vm.Push(s.vm.NewFunctionFromProto(p.proto))
	if err := s.protected(0, 0); err != nil {
		s.vm.Close()
		return nil, s.blame(err)
	}
	return s, nil
}

// protected calls what was pushed. The virtual machine turns panics into errors, but may itself panic while it describes one.
func (s *session) protected(arguments, results int) (err error) {
	defer func() {
		if broken := recover(); broken != nil {
			err = fmt.Errorf("the virtual machine gave up: %v", broken)
		}
	}()
	return s.vm.PCall(arguments, results, nil)
}

// call runs a global function of the script with one argument and gives its first result.
func (s *session) call(function string, input vm.LValue) (result, error) {
	f, ok := s.vm.G.Global.RawGetString(function).(*vm.LFunction)
	if !ok {
		return result{}, messages.Invalid("formatter_function", "the script has no function %s: add it, or choose another formatter for this direction", function)
	}
	s.vm.Push(f)
	s.vm.Push(input)
	if err := s.protected(1, 1); err != nil {
		return result{}, s.blame(err)
	}
	got := s.vm.Get(-1)
	if got == nil {
		got = vm.LNil // what the virtual machine has where nothing was ever put
	}
	s.vm.Pop(1)
	return newResult(function, got)
}

func (s *session) decode(function string, in messages.DecodeInput) (messages.Decoded, vm.LValue, error) {
	result, err := s.call(function, s.decodeInput(in))
	if err != nil {
		return messages.Decoded{}, nil, err
	}
	data, ok := result.table.RawGetString("data").(*vm.LTable)
	if !ok {
		return messages.Decoded{}, nil, result.refuse("data is a %s: return a table, such as {data = {temperature = 21.5}}", result.table.RawGetString("data").Type())
	}
	w := writer{run: s.run, root: "data", warnings: result.warnings}
	text, err := w.object(data)
	if err != nil {
		return messages.Decoded{}, nil, err
	}
	return messages.Decoded{Data: text, Warnings: w.warnings}, data, nil
}

// normalize runs normalizeUplink on what decodeUplink gave. Its data is one measurement or a list of them.
func (s *session) normalize(data vm.LValue) ([]json.RawMessage, []string, error) {
	input := s.vm.CreateTable(0, 1)
	input.RawSetString("data", data)
	result, err := s.call("normalizeUplink", input)
	if err != nil {
		return nil, nil, err
	}
	given, ok := result.table.RawGetString("data").(*vm.LTable)
	if !ok && result.table.RawGetString("data") == vm.LNil {
		return []json.RawMessage{}, result.warnings, nil
	}
	if !ok {
		return nil, nil, result.refuse("data is a %s: return a measurement such as {data = {air = {temperature = 21.5}}}, or a list of them", result.table.RawGetString("data").Type())
	}
	measurements, isList := elements(given)
	if !isList {
		measurements = []vm.LValue{given}
	}
	w := writer{run: s.run, root: "data", warnings: result.warnings}
	out := make([]json.RawMessage, 0, len(measurements))
	for i, m := range measurements {
		t, ok := m.(*vm.LTable)
		if !ok {
			return nil, nil, result.refuse("data[%d] is a %s: make each measurement a table", i+1, m.Type())
		}
		text, err := w.object(t)
		if err != nil {
			return nil, nil, err
		}
		out = append(out, text)
	}
	return out, w.warnings, nil
}

// clip bounds the text of an error or warning.
func clip(text string) string {
	const most = 1000
	text = strings.ToValidUTF8(text[:min(len(text), most+1)], "\ufffd")
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most-3], "") + "..."
	}
	return text
}
