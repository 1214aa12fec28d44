// Package formatterstest holds the contract that script formatters of every language keep when they run in the workers of package formatters:
// the same answers to the same script, the same refusals, and no harm done by scripts that mean it.
//
// The test binary that uses it must become a worker if it is started with the argument "formatter-worker" (formatters.RunWorker).
package formatterstest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"lorikeet/formatters"
	"lorikeet/messages"
)

// Scripts of one language.
type Scripts struct {
	Kind messages.FormatterKind
	// Thermometer decodes int16 big endian (tenths of a degree) and u8 (battery, percent) to temperature, battery, port and received (input.recvTime as
	// ISO text); warns "battery low" below 20; returns the error "too short" for less than 3 bytes; throws "unknown port 99"; normalizes to
	// air.temperature; encodes {"interval": seconds} to two bytes on FPort 10, or on the requested one if "keep" is true, and returns the error
	// "interval is missing" otherwise; decodes that downlink.
	Thermometer string
	// Counter counts its calls in a global, returns n, and spoils a built-in that it uses.
	Counter string
	Broken  string            // has an error on line 3
	Empty   string            // defines no function
	Refused map[string]string // what runs but can't be used: the words of the error, by source
	Hostile map[string]string // loops, bombs and floods by name; all fail
	Hang    string            // never ends
}

func (s Scripts) formatter(source string) messages.Formatter {
	return messages.Formatter{Kind: s.Kind, Parameter: source}
}

// suite is one open Set with the scripts of a language.
type suite struct {
	Scripts
	set *formatters.Set
}

var received = time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)

// Run checks every rule of the contract for one language. cfg says how long a call may take and how workers are started.
func Run(t *testing.T, cfg formatters.Config, scripts Scripts) {
	for _, c := range []struct {
		name string
		test func(*testing.T, suite)
	}{
		{"Decode", testDecode},
		{"Failures", testFailures},
		{"Encode", testEncode},
		{"DecodeDownlinkInvertsEncode", testDecodeDownlink},
		{"UnusableResults", testRefused},
		{"Check", testCheck},
		{"NothingIsLeft", testNothingIsLeft},
		{"AnswersReachTheirCallers", testConcurrent},
		{"HostileScripts", testHostile},
		{"NeighboursOfAHang", testNeighbours},
		{"HangIsParked", testParked},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			set, err := formatters.Open(cfg)
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := set.Close(); err != nil {
					t.Error(err)
				}
			}()
			c.test(t, suite{scripts, set})
		})
	}
}

func wantError(t testing.TB, err error, name string, words ...string) {
	t.Helper()
	var e *messages.Error
	if !errors.As(err, &e) {
		t.Fatalf("got error %v (%T), want a messages.Error named %s", err, err, name)
	}
	if name != "" && e.Name != name {
		t.Errorf("got %s: %s, want %s", e.Name, e.Message, name)
	}
	for _, w := range words {
		if !strings.Contains(e.Message, w) {
			t.Errorf("error says %q, want %q in it", e.Message, w)
		}
	}
}

// wantJSON compares values, not texts: not every language keeps the order of keys.
func wantJSON(t testing.TB, got json.RawMessage, want string) {
	t.Helper()
	var g, w any
	if err := errors.Join(json.Unmarshal(got, &g), json.Unmarshal([]byte(want), &w)); err != nil {
		t.Fatalf("%s: %v", got, err)
	}
	if diff := cmp.Diff(w, g); diff != "" {
		t.Errorf("want -, got +:\n%s", diff)
	}
}

func (s suite) decode(ctx context.Context, source string, fPort uint8, bytes ...byte) (messages.Decoded, error) {
	return s.set.DecodeUplink(ctx, s.formatter(source), messages.DecodeInput{Bytes: bytes, FPort: fPort, RecvTime: received})
}

// healthy decodes one uplink of the thermometer.
func (s suite) healthy(t testing.TB, tenths int16) {
	t.Helper()
	d, err := s.decode(context.Background(), s.Thermometer, 2, byte(tenths>>8), byte(tenths), 80)
	if err != nil {
		t.Errorf("a healthy script failed: %v", err)
		return
	}
	wantJSON(t, d.Data, fmt.Sprintf(`{"temperature":%v,"battery":80,"port":2,"received":"2026-11-23T10:00:00.000Z"}`, float64(tenths)/10))
}

func testDecode(t *testing.T, s suite) {
	s.healthy(t, 215)
	s.healthy(t, -41)
	d, err := s.decode(t.Context(), s.Thermometer, 2, 0, 215, 19)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"battery low"}, d.Warnings); diff != "" {
		t.Errorf("warnings: want -, got +:\n%s", diff)
	}
	if len(d.Normalized) != 1 || len(d.NormalizedWarnings) != 0 {
		t.Fatalf("normalized %s, warnings %q", d.Normalized, d.NormalizedWarnings)
	}
	wantJSON(t, d.Normalized[0], `{"air":{"temperature":21.5}}`)
}

func testFailures(t *testing.T, s suite) {
	_, err := s.decode(t.Context(), s.Thermometer, 2, 0)
	wantError(t, err, "formatter_error", "too short")
	_, err = s.decode(t.Context(), s.Thermometer, 99, 0, 215, 80)
	wantError(t, err, "formatter_error", "unknown port 99")
	_, err = s.decode(t.Context(), s.Broken, 1, 0)
	wantError(t, err, "formatter_compile", "3")
	_, err = s.decode(t.Context(), s.Empty, 1, 0)
	wantError(t, err, "formatter_function", "decodeUplink")
	_, err = s.set.EncodeDownlink(t.Context(), s.formatter(s.Empty), messages.EncodeInput{Data: json.RawMessage(`{}`)})
	wantError(t, err, "formatter_function", "encodeDownlink")
	_, err = s.set.DecodeDownlink(t.Context(), s.formatter(s.Empty), messages.DecodeInput{})
	wantError(t, err, "formatter_function", "decodeDownlink")
	_, err = s.decode(t.Context(), strings.Repeat(" ", messages.MaxFormatterSource+1), 1, 0)
	wantError(t, err, "formatter_compile", fmt.Sprint(messages.MaxFormatterSource))
}

func testEncode(t *testing.T, s suite) {
	for _, c := range []struct {
		data  string
		fPort uint8
		want  messages.Encoded
	}{
		{`{"interval":300}`, 0, messages.Encoded{Bytes: []byte{1, 44}, FPort: 10}},
		{`{"interval":300}`, 7, messages.Encoded{Bytes: []byte{1, 44}, FPort: 10}},
		{`{"interval":300,"keep":true}`, 7, messages.Encoded{Bytes: []byte{1, 44}, FPort: 7}},
		{`{"interval":300,"keep":true}`, 0, messages.Encoded{Bytes: []byte{1, 44}, FPort: 1}},
	} {
		got, err := s.set.EncodeDownlink(t.Context(), s.formatter(s.Thermometer), messages.EncodeInput{Data: json.RawMessage(c.data), FPort: c.fPort})
		if err != nil {
			t.Fatalf("%s: %v", c.data, err)
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s on %d: want -, got +:\n%s", c.data, c.fPort, diff)
		}
	}
	_, err := s.set.EncodeDownlink(t.Context(), s.formatter(s.Thermometer), messages.EncodeInput{Data: json.RawMessage(`{"led":1}`)})
	wantError(t, err, "formatter_error", "interval is missing")
	_, err = s.set.EncodeDownlink(t.Context(), s.formatter(s.Thermometer), messages.EncodeInput{Data: json.RawMessage(`{"led":`)})
	wantError(t, err, "formatter_error")
}

func testDecodeDownlink(t *testing.T, s suite) {
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 0))
	for range 50 {
		want := fmt.Sprintf(`{"interval":%d}`, random.IntN(1<<16))
		e, err := s.set.EncodeDownlink(t.Context(), s.formatter(s.Thermometer), messages.EncodeInput{Data: json.RawMessage(want)})
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		d, err := s.set.DecodeDownlink(t.Context(), s.formatter(s.Thermometer), messages.DecodeInput{Bytes: e.Bytes, FPort: e.FPort})
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		wantJSON(t, d.Data, want)
	}
}

func testRefused(t *testing.T, s suite) {
	for source, words := range s.Refused {
		t.Run(words, func(t *testing.T) {
			_, err := s.decode(t.Context(), source, 1, 0)
			wantError(t, err, "", words)
			s.healthy(t, 215)
		})
	}
}

func testCheck(t *testing.T, s suite) {
	if err := s.set.Check(t.Context(), s.formatter(s.Thermometer)); err != nil {
		t.Error(err)
	}
	if err := s.set.Check(t.Context(), s.formatter(s.Hang)); err != nil {
		t.Errorf("a check must not run the script: %v", err)
	}
	wantError(t, s.set.Check(t.Context(), s.formatter(s.Broken)), "formatter_compile", "3")
	s.healthy(t, 215)
}

func testNothingIsLeft(t *testing.T, s suite) {
	for range 10 {
		d, err := s.decode(t.Context(), s.Counter, 1, 0)
		if err != nil {
			t.Fatal(err)
		}
		wantJSON(t, d.Data, `{"n":1}`)
		s.healthy(t, 215)
	}
}

func testConcurrent(t *testing.T, s suite) {
	var callers sync.WaitGroup
	for caller := range 30 {
		callers.Go(func() {
			for i := range 20 {
				s.healthy(t, int16(caller*100+i))
			}
		})
	}
	callers.Wait()
}

// testHostile runs each script once: it must fail, in its time, and the next call of a healthy script must work.
func testHostile(t *testing.T, s suite) {
	for _, name := range slices.Sorted(maps.Keys(s.Hostile)) {
		t.Run(name, func(t *testing.T) {
			start := time.Now()
			_, err := s.decode(t.Context(), s.Hostile[name], 1, 0)
			took := time.Since(start)
			wantError(t, err, "")
			t.Logf("%s: %v", took.Round(time.Millisecond), err)
			if took > time.Minute { // a machine under load is slow; a script that is not stopped runs for ever
				t.Errorf("it took %s", took)
			}
			s.healthy(t, 215)
		})
	}
}

// testNeighbours: while scripts hang, others are served.
func testNeighbours(t *testing.T, s suite) {
	s.healthy(t, 215)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var hanging sync.WaitGroup
	for i := range 6 { // different scripts, so that they are not parked as one
		hanging.Go(func() {
			for ctx.Err() == nil {
				_, err := s.decode(ctx, s.Hang+strings.Repeat("\n", i), 1, 0)
				var e *messages.Error
				if errors.As(err, &e) && e.Name == "formatter_parked" {
					return
				}
			}
		})
	}
	for i := range 200 {
		s.healthy(t, int16(i))
	}
	cancel()
	hanging.Wait()
}

func testParked(t *testing.T, s suite) {
	var e *messages.Error
	for range 20 {
		_, err := s.decode(t.Context(), s.Hang, 1, 0)
		wantError(t, err, "")
		if errors.As(err, &e) && e.Name == "formatter_parked" {
			break
		}
	}
	if e == nil || e.Name != "formatter_parked" {
		t.Fatalf("got %v, want formatter_parked", e)
	}
	s.healthy(t, 215)
}
