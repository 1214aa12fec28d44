package formatters

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"lorikeet/formatters/cayennelpp"
	"lorikeet/formatters/repository"
	"lorikeet/messages"
)

// Config of a Set. The zero value works.
type Config struct {
	Workers int           // processes that run scripts; 0: one per core, two at least
	Timeout time.Duration // processor time of one call; 0: 100 ms. Compiling, at a script's first call in a worker, has a time of its own
	// Repository has the codecs of FORMATTER_REPOSITORY; nil: there are none.
	Repository *repository.Repository
	// Command starts a worker: a program and its arguments. It must call RunWorker with its standard input and output.
	// Empty: this program with the argument "formatter-worker".
	Command []string
	// Patient scripts run however often they had to be stopped: for tests of codecs, whose calls are judged each on its own.
	Patient    bool
	Log        *slog.Logger          // nil: none
	Registerer prometheus.Registerer // nil: metrics are registered nowhere
}

func (c Config) withDefaults() (Config, error) {
	if c.Workers == 0 {
		c.Workers = max(runtime.NumCPU(), 2) // with one, a script that hangs would hold up all others
	}
	if c.Timeout == 0 {
		c.Timeout = 100 * time.Millisecond
	}
	if c.Workers < 0 || c.Timeout < 0 {
		return c, fmt.Errorf("formatters: %d workers, time-out %s: neither can be negative", c.Workers, c.Timeout)
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if len(c.Command) == 0 {
		path, err := self()
		if err != nil {
			return c, fmt.Errorf("formatters: find this program: %w", err)
		}
		c.Command = []string{path, "formatter-worker"}
	}
	return c, nil
}

// wall is the time after which a call is ended in any case.
func (c Config) wall() time.Duration {
	return max(min(10*c.Timeout, 2*time.Second), 3*c.Timeout)
}

// Set runs the formatters of all devices and applications. Its methods may be called by many goroutines.
type Set struct {
	cfg      Config
	slots    *slots
	launcher *launcher
	metrics  *metrics
	calls    sync.WaitGroup
	closing  sync.Once

	mu        sync.Mutex
	closed    bool
	complaint time.Time // the last time a worker could not be started
}

// Open prepares a Set. Workers are started when they are first needed.
func Open(cfg Config) (*Set, error) {
	if os.Getenv(workerEnvironment) != "" {
		return nil, errors.New("formatters: this process was started as a formatter worker and can't start its own: call RunWorker first thing in main, or set Config.Command")
	}
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	s := &Set{cfg: cfg, slots: newSlots(cfg.Workers, time.Now)}
	s.slots.patient = cfg.Patient
	s.metrics = newMetrics(s.slots)
	if err := s.metrics.register(cfg.Registerer); err != nil {
		return nil, err
	}
	s.launcher = newLauncher(cfg.Command[0], cfg.Command[1:])
	return s, nil
}

// Close refuses calls that wait or come, lets those that run end, and stops the workers.
func (s *Set) Close() error {
	s.closing.Do(func() {
		s.mu.Lock()
		s.closed = true
		s.mu.Unlock()
		for _, p := range s.slots.close() {
			p.destroy()
		}
		s.calls.Wait()
		for _, p := range s.slots.close() { // of the calls that ran
			p.destroy()
		}
		s.launcher.close()
		s.metrics.unregister(s.cfg.Registerer)
	})
	return nil
}

// DecodeUplink decodes what a device sent. With FORMATTER_NONE the result is empty. If only the normalization fails, the decoded data come with the error.
// The errors are messages.Errors:
//
//   - of the script: formatter_compile, formatter_error (it threw or returned errors), formatter_output (what it returned can't be used),
//     formatter_function (it has no function for this), formatter_limit (it took too long or too much memory), formatter_parked (it had to be
//     stopped too often);
//   - of the server: formatter_busy, formatter_unavailable, formatter_worker_ended;
//   - of the configuration: formatter_not_configured, and those of package repository.
//
// A call that waits for a worker gives up when ctx ends; one that runs is bounded by Config.Timeout.
func (s *Set) DecodeUplink(ctx context.Context, f messages.Formatter, in messages.DecodeInput) (messages.Decoded, error) {
	a, err := s.run(ctx, f, &request{op: opDecodeUplink, decode: in})
	return a.decoded, err
}

// DecodeDownlink decodes what is sent to a device. Its errors are those of DecodeUplink.
func (s *Set) DecodeDownlink(ctx context.Context, f messages.Formatter, in messages.DecodeInput) (messages.Decoded, error) {
	a, err := s.run(ctx, f, &request{op: opDecodeDownlink, decode: in})
	return a.decoded, err
}

// EncodeDownlink encodes what is to be sent to a device. With FORMATTER_NONE there are no bytes. Its errors are those of DecodeUplink.
func (s *Set) EncodeDownlink(ctx context.Context, f messages.Formatter, in messages.EncodeInput) (messages.Encoded, error) {
	if len(in.Data) > maxInputData {
		return messages.Encoded{}, messages.Invalid("formatter_error", "the data to encode have %d bytes: send at most %d", len(in.Data), maxInputData)
	}
	a, err := s.run(ctx, f, &request{op: opEncodeDownlink, encode: in})
	return a.encoded, err
}

// Check says whether a formatter can be used: its kind is known and its script compiles. It does not run the script.
func (s *Set) Check(ctx context.Context, f messages.Formatter) error {
	_, err := s.run(ctx, f, &request{op: opCheck})
	return err
}

func (s *Set) run(ctx context.Context, f messages.Formatter, r *request) (answer, error) {
	start := time.Now()
	a, err := s.dispatch(ctx, f, r)
	s.metrics.observe(knownKind(f.Kind), time.Since(start), err)
	return a, err
}

func (s *Set) dispatch(ctx context.Context, f messages.Formatter, r *request) (answer, error) {
	switch f.Kind {
	case messages.FormatterNone:
		return answer{encoded: messages.Encoded{FPort: max(r.encode.FPort, 1)}}, nil
	case messages.FormatterCayenneLPP:
		return runCayenneLPP(r)
	case messages.FormatterJavaScript:
		return s.runScript(ctx, f, javaScript, r)
	case messages.FormatterLua:
		return s.runScript(ctx, f, luaScript, r)
	case messages.FormatterRepository:
		named, err := s.codec(f.Parameter, r)
		if err != nil {
			return answer{}, err
		}
		return s.dispatch(ctx, named, r)
	}
	return answer{}, messages.Invalid("formatter_not_configured", "formatter %.64q is not available: use FORMATTER_JAVASCRIPT, FORMATTER_LUA, FORMATTER_CAYENNELPP, FORMATTER_REPOSITORY or FORMATTER_NONE", f.Kind)
}

// codec finds the script that a codec of the repository has for a request. A check is about a codec that is named; one that is chosen by version ids is
// not known yet.
func (s *Set) codec(name string, r *request) (messages.Formatter, error) {
	if s.cfg.Repository == nil {
		return messages.Formatter{}, messages.Invalid("formatter_not_configured", "FORMATTER_REPOSITORY needs a device repository: set formatters.repository in the server's configuration")
	}
	switch {
	case r.op == opEncodeDownlink:
		return s.cfg.Repository.Codec(name, r.encode.VersionIDs, messages.DownlinkEncoder)
	case r.op == opDecodeDownlink:
		return s.cfg.Repository.Codec(name, r.decode.VersionIDs, messages.DownlinkDecoder)
	case r.op == opCheck && name == "":
		return messages.Formatter{Kind: messages.FormatterNone}, nil
	}
	return s.cfg.Repository.Codec(name, r.decode.VersionIDs, messages.UplinkDecoder)
}

// runCayenneLPP needs no worker: it runs no one's code but ours.
func runCayenneLPP(r *request) (a answer, err error) {
	switch r.op {
	case opDecodeUplink:
		a.decoded, err = cayennelpp.DecodeUplink(r.decode)
	case opDecodeDownlink:
		a.decoded, err = cayennelpp.DecodeDownlink(r.decode)
	case opEncodeDownlink:
		a.encoded, err = cayennelpp.EncodeDownlink(r.encode)
	}
	return a, err
}

func knownKind(k messages.FormatterKind) messages.FormatterKind {
	switch k {
	case messages.FormatterNone, messages.FormatterRepository, messages.FormatterJavaScript, messages.FormatterLua, messages.FormatterCayenneLPP:
		return k
	}
	return "other"
}

func outcome(err error) string {
	var e *messages.Error
	switch {
	case err == nil:
		return "ok"
	case errors.As(err, &e):
		return e.Name
	}
	return "canceled"
}

func (s *Set) runScript(ctx context.Context, f messages.Formatter, l language, r *request) (answer, error) {
	if len(f.Parameter) > messages.MaxFormatterSource {
		return answer{}, messages.Invalid("formatter_compile", "the script has %d bytes: use at most %d", len(f.Parameter), messages.MaxFormatterSource)
	}
	if !s.enter() {
		return answer{}, errClosed()
	}
	defer s.calls.Done()
	w, err := s.slots.acquire(ctx, f, l, r.device())
	if err != nil {
		return answer{}, err
	}
	r.language, r.id, r.timeout = l, w.script.id, s.cfg.Timeout
	start := time.Now()
	a, p, err := s.callWorker(w.script, r)
	var stopped error
	if errors.Is(err, errLimit) || errors.Is(err, errWorkerEnded) {
		stopped = err
	}
	if parked := s.slots.release(w, p, time.Since(start), stopped); parked {
		s.cfg.Log.Warn("formatter parked", "script", w.script.hash, "application_id", w.device.ApplicationID, "device_id", w.device.DeviceID, "kind", f.Kind, "cause", stopped)
	}
	return a, err
}

// Errors after which a script has a strike; compared by name.
var (
	errLimit       = &messages.Error{Name: "formatter_limit"}
	errWorkerEnded = &messages.Error{Name: "formatter_worker_ended"}
)

// enter counts a call in, unless the Set is closed.
func (s *Set) enter() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.calls.Add(1)
	}
	return !s.closed
}

// callWorker makes a call and gives the process if it can go on.
func (s *Set) callWorker(script *script, r *request) (answer, *process, error) {
	// A worker that died for no reason that we know (someone ended it while it was idle, say) is not the script's fault: it has a second try.
	for range 2 {
		p, err := s.worker()
		if err != nil {
			return answer{}, nil, err
		}
		a, err := p.call(r, script.key.Parameter, s.cfg.wall())
		if err == nil {
			if a.tired {
				p.destroy()
				p = nil
			}
			if a.err != nil {
				return a, p, a.err
			}
			return a, p, nil
		}
		cause := p.destroy()
		s.metrics.deaths.WithLabelValues(string(cause)).Inc()
		s.cfg.Log.Warn("formatter worker ended during a call", "script", script.hash, "cause", string(cause), "err", err, "stderr", p.stderr.firstLine())
		switch cause {
		case deathTime:
			return answer{}, nil, messages.Invalid(errLimit.Name, "the script did not end in time and its worker was stopped: simplify it")
		case deathMemory:
			return answer{}, nil, messages.Invalid(errLimit.Name, "the script used more memory than a formatter may have: make it smaller")
		}
	}
	return answer{}, nil, messages.Errorf(messages.CodeUnavailable, errWorkerEnded.Name, "the worker ended twice while it ran the script: try again")
}

// worker gives an idle process or starts one.
func (s *Set) worker() (*process, error) {
	p, err := s.slots.process()
	if err != nil || p != nil {
		return p, err
	}
	if p, err = s.launcher.launch(); err == nil {
		s.metrics.starts.Inc()
		return p, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if now := time.Now(); now.Sub(s.complaint) > 10*time.Second {
		s.complaint = now
		s.cfg.Log.Error("can't start a formatter worker; payloads go out undecoded", "err", err)
	}
	return nil, messages.Errorf(messages.CodeUnavailable, "formatter_unavailable", "no formatter worker can be started: see the server's log")
}
