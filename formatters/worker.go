package formatters

import (
	"bufio"
	"container/list"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"time"

	"lorikeet/formatters/javascript"
	"lorikeet/formatters/lua"
	"lorikeet/formatters/normalized"
	"lorikeet/messages"
)

// What a worker keeps compiled. A program takes some ten times the memory of its source.
const (
	maxPrograms      = 256
	maxProgramSource = 2 << 20
	largeSource      = 64 << 10
)

// program is a compiled script.
type program interface {
	DecodeUplink(context.Context, messages.DecodeInput) (messages.Decoded, error)
	DecodeDownlink(context.Context, messages.DecodeInput) (messages.Decoded, error)
	EncodeDownlink(context.Context, messages.EncodeInput) (messages.Encoded, error)
}

func compile(l language, source string) (program, error) {
	switch l {
	case javaScript:
		return javascript.Compile(source)
	case luaScript:
		return lua.Compile(source)
	}
	return nil, messages.Errorf(messages.CodeInternal, "formatter_language", "worker: unknown language %d", l)
}

// RunWorker is the main function of a worker. It takes away the process's own means (memory, files, core dumps), then answers requests until in ends.
func RunWorker(in io.Reader, out io.Writer) error {
	confined, err := confine()
	if err != nil {
		err = fmt.Errorf("formatter worker: limit the process: %w", err)
		fmt.Fprintln(os.Stderr, err)
		return err
	}
	w := newWorker()
	w.confined = confined
	if err = w.serve(bufio.NewReaderSize(in, 64<<10), out); err != nil {
		fmt.Fprintln(os.Stderr, "formatter worker:", err)
	}
	return err
}

// worker answers requests, one after another.
type worker struct {
	confined confinement
	budget   *budget
	programs map[uint64]*list.Element
	recent   *list.List // of *cached, the last used first
	size     int        // bytes of source of all programs
}

// cached is a compiled script, or why it can't be compiled: uplinks of a device with a broken script come as often as others.
type cached struct {
	id      uint64
	size    int
	program program
	err     error
}

func newWorker() *worker {
	return &worker{budget: newBudget(), programs: make(map[uint64]*list.Element), recent: list.New()}
}

func (w *worker) serve(in io.Reader, out io.Writer) error {
	b := closeFrame(append(openFrame(nil), hello...))
	for {
		if _, err := out.Write(b); err != nil {
			return err
		}
		content, err := readFrame(in)
		if errors.Is(err, io.EOF) && !errors.Is(err, errFrame) {
			return nil // the server has gone
		}
		if err != nil {
			return err
		}
		r, err := parseRequest(content)
		if err != nil {
			return err
		}
		started := time.Now()
		a := w.answer(&r)
		// Only what takes long can have taken much memory; asking costs a system call or two.
		a.tired = time.Since(started) > 5*time.Millisecond && w.confined.exhausted()
		b = a.appendTo(b, r.op)
	}
}

func (w *worker) answer(r *request) answer {
	c := w.find(r) // not on the script's time, see limits
	ctx := w.budget.begin(r.timeout)
	defer w.budget.end()
	switch {
	case c == nil:
		return answer{status: statusUnknown}
	case c.err != nil:
		return failed(c.err)
	case r.op == opCheck:
		return answer{status: statusOK}
	}
	a, err := c.run(ctx, r)
	if err != nil {
		return failed(err)
	}
	if a.size() > messages.MaxFormatterOutput {
		return failed(messages.Invalid("formatter_output", "the script's output is larger than %d bytes: return less", messages.MaxFormatterOutput))
	}
	a.status = statusOK
	return a
}

func (a *answer) size() int {
	n := len(a.decoded.Data) + len(a.encoded.Bytes)
	for _, list := range [][]string{a.decoded.Warnings, a.decoded.NormalizedWarnings, a.encoded.Warnings} {
		for _, text := range list {
			n += len(text)
		}
	}
	for _, measurement := range a.decoded.Normalized {
		n += len(measurement)
	}
	return n
}

func (c *cached) run(ctx context.Context, r *request) (a answer, err error) {
	defer func() {
		if recovered := recover(); recovered != nil {
			err = messages.Invalid("formatter_error", "the interpreter failed on the script")
		}
	}()
	switch r.op {
	case opDecodeUplink:
		if a.decoded, err = c.program.DecodeUplink(ctx, r.decode); err == nil {
			err = normalize(&a.decoded)
		}
		if err != nil && a.decoded.Data != nil { // only the normalization failed: what was decoded stands
			a.err, err = errorOf(err), nil
		}
	case opDecodeDownlink:
		a.decoded, err = c.program.DecodeDownlink(ctx, r.decode)
	case opEncodeDownlink:
		a.encoded, err = c.program.EncodeDownlink(ctx, r.encode)
	}
	return a, err
}

func failed(err error) answer { return answer{status: statusError, err: errorOf(err)} }

func errorOf(err error) *messages.Error {
	var e *messages.Error
	if !errors.As(err, &e) {
		e = messages.Invalid("formatter_error", "%v", err)
	}
	if strings.TrimSpace(e.Message) == "" { // an event without a reason would look like one that was never decoded
		return messages.Errorf(e.Code, e.Name, "the script failed and gave no reason")
	}
	return e
}

// normalize checks what normalizeUplink gave. Without one, decoded data that are a measurement as they are become the only one.
func normalize(d *messages.Decoded) error {
	if d.Normalized == nil {
		if valid, warnings, err := normalized.CheckAll([]json.RawMessage{d.Data}); err == nil {
			d.Normalized, d.NormalizedWarnings = valid, warnings
		}
		return nil
	}
	valid, warnings, err := normalized.CheckAll(d.Normalized)
	if err != nil {
		d.Normalized, d.NormalizedWarnings = nil, nil
		e := errorOf(err)
		return messages.Errorf(e.Code, "formatter_output", "normalizeUplink: %s", e.Message)
	}
	d.Normalized, d.NormalizedWarnings = valid, append(d.NormalizedWarnings, warnings...)
	return nil
}

// find gives the program of a request, compiled if need be; nil if the source is needed and was not sent.
func (w *worker) find(r *request) *cached {
	if e, ok := w.programs[r.id]; ok {
		w.recent.MoveToFront(e)
		return e.Value.(*cached)
	}
	if !r.new {
		return nil
	}
	c := &cached{id: r.id, size: len(r.source)}
	c.program, c.err = compile(r.language, r.source)
	if c.size > largeSource {
		runtime.GC() // what is left of compiling is cleared away before the script's own time begins
	}
	w.programs[r.id] = w.recent.PushFront(c)
	for w.size += c.size; w.recent.Len() > 1 && (w.size > maxProgramSource || w.recent.Len() > maxPrograms); {
		last := w.recent.Remove(w.recent.Back()).(*cached)
		delete(w.programs, last.id)
		w.size -= last.size
	}
	return c
}
