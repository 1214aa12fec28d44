package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"lorikeet/formatters"
	"lorikeet/formatters/cases"
	"lorikeet/formatters/repository"
	"lorikeet/messages"
)

type formatterCommand struct {
	Test formatterTestCommand `cmd:"" help:"Run payload formatters on lists of cases, one JSON object a line, and print one result a line. The exit code is 1 if one fails."`
}

type formatterTestCommand struct {
	Lists      []string      `arg:"" optional:"" placeholder:"LIST" help:"Files of cases; - is standard input. Without lists, the examples of the repository are run."`
	Repository string        `type:"existingdir" placeholder:"DIR" help:"Device repository whose codecs cases may name as vendor/codec."`
	Timeout    time.Duration `default:"100ms" help:"Processor time of one call."`
	Workers    int           `placeholder:"N" help:"Processes that run scripts (default: one per core)."`
	Failures   bool          `help:"Print only the results of cases that failed."`
}

// Run judges all cases in order, in the sandbox of the server.
func (c *formatterTestCommand) Run(ctx context.Context) error {
	if len(c.Lists) == 0 && c.Repository == "" {
		return errors.New("nothing to run: name a list of cases, or a device repository with --repository")
	}
	run := &formatterRun{ctx: ctx, sources: map[string]source{}, failuresOnly: c.Failures, severalLists: len(c.Lists) > 1, repository: c.Repository != "", out: bufio.NewWriter(os.Stdout)}
	cfg := formatters.Config{Workers: c.Workers, Timeout: c.Timeout, Patient: true}
	if c.Repository != "" {
		var err error
		if cfg.Repository, err = repository.Open(c.Repository, slog.New(slog.NewTextHandler(os.Stderr, nil))); err != nil {
			return err
		}
	}
	var err error
	if run.set, err = formatters.Open(cfg); err != nil {
		return err
	}
	defer run.set.Close()
	started := time.Now()
	run.begin(2 * max(c.Workers, runtime.NumCPU()))
	err = c.submit(run, cfg.Repository)
	failed, total := run.end()
	err = errors.Join(err, run.out.Flush())
	took := time.Since(started)
	fmt.Fprintf(os.Stderr, "%d cases, %d failed, %.0f a second\n", total, failed, float64(total)/took.Seconds())
	switch {
	case err != nil:
		return err
	case ctx.Err() != nil:
		return errors.New("interrupted")
	case failed > 0:
		return fmt.Errorf("%d of %d cases failed", failed, total)
	}
	return nil
}

// submit gives all cases to the run.
func (c *formatterTestCommand) submit(run *formatterRun, codecs *repository.Repository) error {
	if len(c.Lists) == 0 {
		return run.examples(codecs)
	}
	for _, name := range c.Lists {
		if err := run.list(name); err != nil {
			return err
		}
	}
	return nil
}

// result is printed for each case.
type result struct {
	List        string     `json:"list,omitempty"` // if there are several
	Line        int        `json:"line,omitempty"`
	Codec       string     `json:"codec"`
	Direction   string     `json:"direction"` // up, down or encode
	Description string     `json:"description,omitempty"`
	OK          bool       `json:"ok"`
	Got         *cases.Got `json:"got,omitempty"`
	Diff        []string   `json:"diff,omitempty"`
	Error       string     `json:"error,omitempty"`
	ErrorName   string     `json:"error_name,omitempty"`
	Ignored     []string   `json:"ignored,omitempty"`
	Took        string     `json:"took"`
}

// formatterRun runs cases at once and prints their results in order.
type formatterRun struct {
	ctx          context.Context
	set          *formatters.Set
	sources      map[string]source
	failuresOnly bool
	severalLists bool
	repository   bool // there is one
	out          *bufio.Writer

	slots   chan struct{}
	pending chan chan result
	done    chan struct{}
	failed  int
	total   int
}

// source of a codec, or why there is none.
type source struct {
	formatter messages.Formatter
	err       error
}

func (r *formatterRun) begin(atOnce int) {
	r.slots, r.pending, r.done = make(chan struct{}, atOnce), make(chan chan result, 4*atOnce), make(chan struct{})
	go func() {
		defer close(r.done)
		encoder := json.NewEncoder(r.out)
		encoder.SetEscapeHTML(false)
		for one := range r.pending {
			res := <-one
			r.total++
			if !res.OK {
				r.failed++
			}
			if !res.OK || !r.failuresOnly {
				_ = encoder.Encode(res) // a bufio.Writer keeps its error for Flush
			}
		}
	}()
}

func (r *formatterRun) end() (failed, total int) {
	close(r.pending)
	<-r.done
	return r.failed, r.total
}

// add runs work when there is a slot for it.
func (r *formatterRun) add(work func() result) {
	one := make(chan result, 1)
	r.slots <- struct{}{}
	r.pending <- one
	go func() {
		defer func() { <-r.slots }()
		one <- work()
	}()
}

// unusable is for a case that can't be run. It fails even if it expects an error, by which it means one of the codec.
func (r *formatterRun) unusable(res result, err error) {
	res.Error, res.Took = err.Error(), "0s"
	r.add(func() result { return res })
}

// list reads the cases of a file. Empty lines and those that begin with # are passed over.
func (r *formatterRun) list(name string) error {
	in, folder := io.Reader(os.Stdin), "."
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		defer f.Close()
		in, folder = f, filepath.Dir(name)
	}
	lines := bufio.NewReader(in)
	for n := 1; r.ctx.Err() == nil; n++ {
		line, err := lines.ReadBytes('\n')
		if text := bytes.TrimSpace(bytes.TrimPrefix(line, []byte("\xef\xbb\xbf"))); len(text) > 0 && text[0] != '#' {
			r.line(name, folder, n, text)
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

func (r *formatterRun) line(list, folder string, n int, text []byte) {
	c, err := cases.Parse(text)
	res := result{Line: n, Codec: c.Codec, Direction: direction(c.Use), Ignored: c.Ignored}
	if r.severalLists {
		res.List = list
	}
	if err != nil {
		r.unusable(res, err)
		return
	}
	f, err := r.find(folder, c.Codec)
	if err != nil {
		r.unusable(res, err)
		return
	}
	r.add(func() result { return r.judge(res, c, f) })
}

func direction(use messages.CodecUse) string {
	switch use {
	case messages.DownlinkEncoder:
		return "encode"
	case messages.DownlinkDecoder:
		return "down"
	}
	return "up"
}

// find reads the codec of a case: a script beside the list or below the working folder, CayenneLPP, or a name in the repository.
func (r *formatterRun) find(folder, codec string) (messages.Formatter, error) {
	if strings.EqualFold(codec, "cayennelpp") || codec == string(messages.FormatterCayenneLPP) {
		return messages.Formatter{Kind: messages.FormatterCayenneLPP}, nil
	}
	path := codec
	if beside := filepath.Join(folder, path); !filepath.IsAbs(path) && (isScript(beside) || !isScript(path)) {
		path = beside
	}
	known, ok := r.sources[path]
	if !ok {
		known.formatter, known.err = readCodec(path, codec)
		if known.formatter.Kind == messages.FormatterRepository && !r.repository {
			known.err = fmt.Errorf("codec %s: it is no script (.js, .lua) and not cayennelpp; for a codec of a device repository, vendor/codec, add --repository DIR", codec)
		}
		r.sources[path] = known
	}
	return known.formatter, known.err
}

// isScript says whether there is a script at the path, with .js or without.
func isScript(path string) bool {
	for _, p := range []string{path, path + ".js"} {
		if info, err := os.Stat(p); err == nil && info.Mode().IsRegular() {
			return true
		}
	}
	return false
}

func readCodec(path, codec string) (messages.Formatter, error) {
	kind := messages.FormatterJavaScript
	switch strings.ToLower(filepath.Ext(path)) {
	case ".lua":
		kind = messages.FormatterLua
	case ".js", ".mjs", ".cjs":
	default:
		if _, err := os.Stat(path + ".js"); err != nil {
			return messages.Formatter{Kind: messages.FormatterRepository, Parameter: codec}, nil
		}
		path += ".js"
	}
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("codec %s: there is no file %s; paths are relative to the list, or else to the working folder", codec, path)
	}
	return messages.Formatter{Kind: kind, Parameter: string(text)}, err
}

// judge runs a case and compares.
func (r *formatterRun) judge(res result, c cases.Case, f messages.Formatter) result {
	started := time.Now()
	got, err := r.call(c, f)
	res.Took = fmt.Sprintf("%.6fs", time.Since(started).Seconds())
	res.Diff = c.Want.Diff(got, err)
	res.OK = len(res.Diff) == 0
	if got.Data != nil || got.Bytes != nil {
		res.Got = &got
	}
	if err != nil {
		res.Error = err.Error()
		var named *messages.Error
		if errors.As(err, &named) {
			res.ErrorName = named.Name
		}
	}
	return res
}

func (r *formatterRun) call(c cases.Case, f messages.Formatter) (cases.Got, error) {
	if c.Decode.RecvTime.IsZero() {
		c.Decode.RecvTime = time.Now()
	}
	switch c.Use {
	case messages.DownlinkEncoder:
		e, err := r.set.EncodeDownlink(r.ctx, f, c.Encode)
		if err != nil {
			return cases.Got{}, err
		}
		return cases.GotEncoded(e), nil
	case messages.DownlinkDecoder:
		d, err := r.set.DecodeDownlink(r.ctx, f, c.Decode)
		return cases.GotDecoded(d), err
	}
	d, err := r.set.DecodeUplink(r.ctx, f, c.Decode)
	return cases.GotDecoded(d), err
}

// examples runs those of all codecs of a repository. Files that can't be used are told, and count as failures.
func (r *formatterRun) examples(codecs *repository.Repository) error {
	examples, errs := codecs.Examples()
	for _, e := range examples {
		c, err := exampleCase(e)
		res := result{Codec: e.Codec, Direction: direction(e.Use), Description: e.Description}
		if err != nil {
			r.unusable(res, err)
			continue
		}
		r.add(func() result {
			return r.judge(res, c, messages.Formatter{Kind: messages.FormatterRepository, Parameter: e.Codec})
		})
	}
	return errors.Join(errs...)
}

func exampleCase(e repository.Example) (cases.Case, error) {
	c := cases.Case{Codec: e.Codec, Use: e.Use}
	c.Decode = messages.DecodeInput{Bytes: e.Bytes, FPort: uint8(e.FPort)}
	c.Encode = messages.EncodeInput{Data: e.Data, FPort: uint8(e.FPort)}
	c.Want = &cases.Want{Data: e.Want.Data, Normalized: e.Want.Normalized, Bytes: e.Want.Bytes, Warnings: e.Want.Warnings, Errors: e.Want.Errors}
	if len(e.Want.Errors) > 0 {
		c.Want.Data = nil
	}
	if e.Want.FPort != 0 {
		fPort := uint8(e.Want.FPort)
		c.Want.FPort = &fPort
	}
	if e.RecvTime == "" {
		return c, nil
	}
	at, err := time.Parse(time.RFC3339Nano, e.RecvTime)
	c.Decode.RecvTime = at
	return c, err
}
