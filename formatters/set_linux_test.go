package formatters

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"lorikeet/messages"
)

// testTimeout: the race detector makes interpreters many times slower.
const testTimeout = 100*time.Millisecond + (raceFactor-1)*20*time.Millisecond

const healthyScript = `function decodeUplink(input) { return {data: {n: input.bytes.length}} }`

func openSet(t *testing.T, cfg Config) *Set {
	t.Helper()
	if cfg.Timeout == 0 {
		cfg.Timeout = testTimeout
	}
	s, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func decode(t *testing.T, s *Set, source string) error {
	t.Helper()
	d, err := s.DecodeUplink(t.Context(), formatter(source), messages.DecodeInput{Bytes: []byte{1, 2, 3}, FPort: 1})
	if err == nil && source == healthyScript && string(d.Data) != `{"n":3}` {
		t.Errorf("got %s", d.Data)
	}
	return err
}

// idleWorker of a Set that has one.
func idleWorker(t *testing.T, s *Set) *process {
	t.Helper()
	if err := decode(t, s, healthyScript); err != nil {
		t.Fatal(err)
	}
	s.slots.mu.Lock()
	defer s.slots.mu.Unlock()
	return s.slots.idle[0]
}

func TestWorkerIsConfined(t *testing.T) {
	t.Parallel()
	pid := idleWorker(t, openSet(t, Config{Workers: 1})).cmd.Process.Pid
	environment, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, variable := range bytes.Split(bytes.Trim(environment, "\x00"), []byte{0}) {
		if !slices.Contains([]string{workerEnvironment + "=1", "MALLOC_ARENA_MAX=1"}, string(variable)) {
			t.Errorf("the environment has %s", variable)
		}
	}
	limits, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range strings.Split(string(limits), "\n") {
		fields := strings.Fields(line)
		switch {
		case strings.HasPrefix(line, "Max address space") && (fields[3] == "unlimited" || fields[3] != fields[4]),
			strings.HasPrefix(line, "Max core file size") && fields[5] != "0",
			strings.HasPrefix(line, "Max open files") && fields[4] != fmt.Sprint(workerFiles):
			t.Error(line)
		}
	}
}

func TestWorkerThatDiedWhileIdleIsReplaced(t *testing.T) {
	t.Parallel()
	s := openSet(t, Config{Workers: 1})
	p := idleWorker(t, s)
	if err := p.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := decode(t, s, healthyScript); err != nil {
		t.Error(err)
	}
}

func TestBusyMachineIsNotTheScriptsFault(t *testing.T) {
	t.Parallel()
	s := openSet(t, Config{Workers: 1})
	p := idleWorker(t, s)
	stop := func(signal syscall.Signal) {
		if err := p.cmd.Process.Signal(signal); err != nil {
			t.Error(err)
		}
	}
	stop(syscall.SIGSTOP)
	pause := s.cfg.Timeout * 3 / 2
	time.AfterFunc(pause, func() { stop(syscall.SIGCONT) })
	start := time.Now()
	if err := decode(t, s, healthyScript); err != nil {
		t.Error(err)
	}
	if took := time.Since(start); took < pause {
		t.Errorf("it took %s, want %s at least: the worker was not stopped", took, pause)
	}
	if idleWorker(t, s) != p {
		t.Error("the worker was replaced")
	}
}

// awaitStopped returns when a signal has stopped a process: it takes effect some time after it was sent.
func awaitStopped(t *testing.T, pid int) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			t.Fatal(err)
		}
		if _, state, _ := strings.Cut(string(text), ") "); strings.HasPrefix(state, "T") { // proc(5): the state follows the name
			return
		}
	}
	t.Fatal("the process goes on")
}

func TestWorkerThatIsStuckIsReplaced(t *testing.T) {
	t.Parallel()
	s := openSet(t, Config{Workers: 1})
	p := idleWorker(t, s)
	if err := p.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	awaitStopped(t, p.cmd.Process.Pid)
	if err := decode(t, s, healthyScript); !errors.Is(err, errLimit) {
		t.Errorf("got %v, want formatter_limit", err)
	}
	if err := decode(t, s, healthyScript); err != nil {
		t.Error(err)
	}
}

func TestWorkersThatCanNotStart(t *testing.T) {
	t.Parallel()
	for _, command := range [][]string{{"/does/not/exist"}, {"/bin/false"}, {"/bin/echo", "hello"}, {"/bin/cat", "/proc/self/environ"}} {
		var log bytes.Buffer
		s := openSet(t, Config{Workers: 1, Command: command, Log: slog.New(slog.NewTextHandler(&log, nil))})
		for range 2 {
			if err := decode(t, s, healthyScript); messages.CodeOf(err) != messages.CodeUnavailable {
				t.Errorf("%q: got %v, want formatter_unavailable", command, err)
			}
		}
		if n := strings.Count(log.String(), "can't start a formatter worker"); n != 1 {
			t.Errorf("%q: the log has %d complaints, want 1:\n%s", command, n, log.String())
		}
		if _, err := s.DecodeUplink(t.Context(), messages.Formatter{Kind: messages.FormatterCayenneLPP}, messages.DecodeInput{Bytes: []byte{1, 0x66, 1}}); err != nil {
			t.Errorf("%q: CayenneLPP needs no worker, but: %v", command, err)
		}
	}
}

func TestWorkerStartsNoWorkers(t *testing.T) {
	t.Setenv(workerEnvironment, "1")
	if s, err := Open(Config{}); err == nil {
		t.Errorf("Open gave %v in a worker", s)
	}
}

func TestImpossibleConfiguration(t *testing.T) {
	t.Parallel()
	for _, cfg := range []Config{{Workers: -1}, {Timeout: -1}} {
		if _, err := Open(cfg); err == nil {
			t.Errorf("%+v: no error", cfg)
		}
	}
}

func TestFormattersWithoutScript(t *testing.T) {
	t.Parallel()
	s := openSet(t, Config{})
	none := messages.Formatter{Kind: messages.FormatterNone}
	if d, err := s.DecodeUplink(t.Context(), none, messages.DecodeInput{Bytes: []byte{1}}); err != nil || d.Data != nil {
		t.Errorf("none: got %s, %v", d.Data, err)
	}
	for requested, want := range map[uint8]uint8{0: 1, 7: 7} {
		if e, err := s.EncodeDownlink(t.Context(), none, messages.EncodeInput{FPort: requested}); err != nil || len(e.Bytes) != 0 || e.FPort != want {
			t.Errorf("none: got %+v, %v", e, err)
		}
	}
	lpp := messages.Formatter{Kind: messages.FormatterCayenneLPP}
	in := messages.DecodeInput{Bytes: []byte{3, 0x67, 1, 0x10}, FPort: 1}
	if d, err := s.DecodeUplink(t.Context(), lpp, in); err != nil || string(d.Data) != `{"temperature_3":27.2}` {
		t.Errorf("CayenneLPP: got %s, %v", d.Data, err)
	}
	if e, err := s.EncodeDownlink(t.Context(), lpp, messages.EncodeInput{Data: []byte(`{"value_2":-50.51}`)}); err != nil || !bytes.Equal(e.Bytes, []byte{2, 0xec, 0x45}) {
		t.Errorf("CayenneLPP: got %x, %v", e.Bytes, err)
	}
	if d, err := s.DecodeDownlink(t.Context(), lpp, messages.DecodeInput{Bytes: []byte{2, 0xec, 0x45}}); err != nil || string(d.Data) != `{"value_2":-50.51}` {
		t.Errorf("CayenneLPP: got %s, %v", d.Data, err)
	}
	for _, kind := range []messages.FormatterKind{messages.FormatterRepository, "FORMATTER_GRPC_SERVICE", ""} {
		_, err := s.DecodeUplink(t.Context(), messages.Formatter{Kind: kind}, in)
		if !errors.Is(err, &messages.Error{Name: "formatter_not_configured"}) || messages.CodeOf(err) != messages.CodeInvalid {
			t.Errorf("%q: got %v, want formatter_not_configured", kind, err)
		}
		if err := s.Check(t.Context(), messages.Formatter{Kind: kind}); err == nil {
			t.Errorf("%q: the check found nothing", kind)
		}
	}
	large := messages.EncodeInput{Data: bytes.Repeat([]byte(" "), maxInputData+1)}
	if _, err := s.EncodeDownlink(t.Context(), formatter(healthyScript), large); messages.CodeOf(err) != messages.CodeInvalid {
		t.Errorf("large data: got %v", err)
	}
}

func TestScriptsThatAWorkerForgotAreSentAgain(t *testing.T) {
	t.Parallel()
	s := openSet(t, Config{Workers: 1})
	for range 2 {
		for i := range maxPrograms + 10 {
			d, err := s.DecodeUplink(t.Context(), formatter(fmt.Sprintf(`function decodeUplink() { return {data: {n: %d}} }`, i)), messages.DecodeInput{})
			if want := fmt.Sprintf(`{"n":%d}`, i); err != nil || string(d.Data) != want {
				t.Fatalf("got %s, %v, want %s", d.Data, err, want)
			}
		}
	}
}

func TestCloseEndsWorkersAndRefusesCalls(t *testing.T) {
	t.Parallel()
	s := openSet(t, Config{Workers: 1})
	p := idleWorker(t, s)
	for range 2 {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if p.cmd.ProcessState == nil {
		t.Error("the worker was not waited for")
	}
	if err := decode(t, s, healthyScript); messages.CodeOf(err) != messages.CodeUnavailable {
		t.Errorf("got %v, want formatter_unavailable", err)
	}
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	r := prometheus.NewRegistry()
	s := openSet(t, Config{Workers: 1, Registerer: r})
	if _, err := Open(Config{Registerer: r}); err == nil {
		t.Error("two Sets share the metrics of one registerer")
	}
	_ = decode(t, s, healthyScript)
	_ = decode(t, s, "none.x")
	_ = decode(t, s, `function decodeUplink() { return {data: {n: new ArrayBuffer(1e11)}} }`)
	for labels, want := range map[string]float64{
		"lorikeet_formatter_calls_total FORMATTER_JAVASCRIPT ok":              1,
		"lorikeet_formatter_calls_total FORMATTER_JAVASCRIPT formatter_error": 1,
		"lorikeet_formatter_calls_total FORMATTER_JAVASCRIPT formatter_limit": 1,
		"lorikeet_formatter_worker_deaths_total memory":                       1,
		"lorikeet_formatter_workers_busy":                                     0,
		"lorikeet_formatter_calls_waiting":                                    0,
		"lorikeet_formatter_scripts_parked":                                   0,
	} {
		if got := value(t, r, labels); got != want {
			t.Errorf("%s is %v, want %v", labels, got, want)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if families, err := r.Gather(); err != nil || len(families) > 0 {
		t.Errorf("%d metrics are left after Close (%v)", len(families), err)
	}
}

// value of a metric, given as its name and the values of its labels.
func value(t *testing.T, r *prometheus.Registry, labels string) float64 {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			name := f.GetName()
			for _, l := range m.GetLabel() {
				name += " " + l.GetValue()
			}
			// Labels come sorted by name: kind, outcome.
			if name == labels {
				return m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	t.Errorf("there is no metric %s", labels)
	return 0
}

func TestSecretsOfTheServerDoNotReachWorkers(t *testing.T) {
	t.Setenv("LORIKEET_KEK", "secret")
	s := openSet(t, Config{Workers: 1})
	environment, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", idleWorker(t, s).cmd.Process.Pid))
	if err != nil || bytes.Contains(environment, []byte("secret")) {
		t.Errorf("the environment is %q (%v)", environment, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.DecodeUplink(ctx, formatter(healthyScript), messages.DecodeInput{}); err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want none or %v", err, context.Canceled)
	}
}

// FuzzJavaScript: whatever a script does, the answer is an object or an error for users, and the next script works.
func FuzzJavaScript(f *testing.F) {
	for _, seed := range []string{
		`function decodeUplink(input) { return {data: {n: input.bytes[0]}, warnings: ["w"]} }`,
		`const decodeUplink = async ({bytes}) => ({data: {b: Buffer.from(bytes).toString("hex")}})`,
		`function Decoder(b, p) { return [b, p] } function normalizeUplink(i) { return {data: i.data} }`,
		`module.exports.decodeUplink = function (i) { return {data: new Proxy({}, {})} }`,
		`function decodeUplink() { throw {toString() { throw this }} }`,
		`function decodeUplink() { return {get data() { return {toJSON() { return [1, NaN] }} }} }`,
		"",
	} {
		f.Add(seed)
	}
	s, err := Open(Config{Timeout: testTimeout})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = s.Close() })
	f.Fuzz(func(t *testing.T, source string) {
		d, err := s.DecodeUplink(t.Context(), formatter(source), messages.DecodeInput{Bytes: []byte{1, 2, 3}, FPort: 1})
		var e *messages.Error
		switch {
		case err != nil && (!errors.As(err, &e) || e.Code != messages.CodeInvalid && e.Code != messages.CodePrecondition):
			t.Errorf("error %v is not for users", err)
		case err == nil && (!json.Valid(d.Data) || d.Data[0] != '{'):
			t.Errorf("data are %q", d.Data)
		}
		if err := decode(t, s, healthyScript); err != nil {
			t.Errorf("the next script: %v", err)
		}
	})
}

func TestLargeScriptIsCompiledOnItsOwnTime(t *testing.T) {
	t.Parallel()
	s := openSet(t, Config{Workers: 1})
	var source strings.Builder
	source.WriteString("function parameters() {\n")
	for i := 0; source.Len() < messages.MaxFormatterSource-200; i++ {
		fmt.Fprintf(&source, "	if (bytes[%d] > %d) { value['p%d'] = {a: bytes[%d] << 8 | bytes[%d + 1], b: [%d, 'x']}; }\n", i, i, i, i, i, i)
	}
	source.WriteString("}\nfunction decodeUplink(input) { return {data: {n: input.bytes.length}} }\n")
	for range 2 {
		if err := decode(t, s, source.String()); err != nil {
			t.Fatal(err)
		}
	}
}
