package formatters

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"lorikeet/messages"
)

var someRequests = []request{
	{op: opCheck, language: luaScript, id: 7, timeout: time.Second, new: true, source: "x"},
	{op: opDecodeUplink, language: javaScript, id: 1 << 40, timeout: 100 * time.Millisecond,
		decode: messages.DecodeInput{Bytes: []byte{0, 255}, FPort: 223, RecvTime: time.Date(2026, 11, 23, 10, 0, 0, 123456789, time.UTC)}},
	{op: opDecodeUplink, language: luaScript, id: 9, decode: messages.DecodeInput{Bytes: []byte{1}, FCnt: 1 << 31, RSSI: ptr[float32](-113), SNR: ptr[float32](-7.25),
		FormatterDevice: messages.FormatterDevice{Device: messages.DeviceID{ApplicationID: "app", DeviceID: "dev"}, DevEUI: messages.EUI64{1, 2},
			Attributes: map[string]string{"a": "1", "b": ""}, VersionIDs: &messages.VersionIDs{BrandID: "b", BandID: "EU_863_870"}}}},
	{op: opDecodeDownlink, language: javaScript, id: 2, new: true, source: "", decode: messages.DecodeInput{RecvTime: time.Unix(0, -1).UTC()}},
	{op: opEncodeDownlink, language: javaScript, id: 3, encode: messages.EncodeInput{Data: json.RawMessage(`{"a":1}`), FPort: 1,
		FormatterDevice: messages.FormatterDevice{Attributes: map[string]string{"k": "v"}}}},
}

func ptr[T any](v T) *T { return &v }

var someAnswers = []struct {
	op     operation
	answer answer
}{
	{opCheck, answer{status: statusOK}},
	{opCheck, answer{status: statusUnknown, tired: true}},
	{opDecodeUplink, answer{status: statusError, err: messages.Invalid("formatter_error", "no")}},
	{opDecodeUplink, answer{status: statusOK, tired: true, decoded: messages.Decoded{Data: json.RawMessage(`{"a":1}`), Warnings: []string{"w", ""},
		Normalized: []json.RawMessage{json.RawMessage(`{}`), json.RawMessage(`{"b":2}`)}, NormalizedWarnings: []string{"x"}}}},
	{opDecodeUplink, answer{status: statusOK, decoded: messages.Decoded{Data: json.RawMessage(`{}`)}, err: messages.Invalid("formatter_normalize", "unknown field")}},
	{opDecodeDownlink, answer{status: statusOK, decoded: messages.Decoded{Data: json.RawMessage(`{}`)}}},
	{opEncodeDownlink, answer{status: statusOK, encoded: messages.Encoded{Bytes: []byte{1, 2}, FPort: 9, Warnings: []string{"w"}}}},
}

var unexported = cmp.AllowUnexported(request{}, answer{})

func TestRequestsAndAnswersSurviveTheWire(t *testing.T) {
	t.Parallel()
	var wire bytes.Buffer
	for _, r := range someRequests {
		wire.Write(r.appendTo(nil))
	}
	for _, want := range someRequests {
		content, err := readFrame(&wire)
		if err != nil {
			t.Fatal(err)
		}
		got, err := parseRequest(content)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got, unexported); diff != "" {
			t.Errorf("want -, got +:\n%s", diff)
		}
	}
	for _, a := range someAnswers {
		content, err := readFrame(bytes.NewReader(a.answer.appendTo(make([]byte, 100), a.op)))
		if err != nil {
			t.Fatal(err)
		}
		got, err := parseAnswer(content, a.op)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(a.answer, got, unexported); diff != "" {
			t.Errorf("want -, got +:\n%s", diff)
		}
	}
}

func TestMalformedFramesAreRefused(t *testing.T) {
	t.Parallel()
	for name, wire := range map[string][]byte{
		"too long":    {0xff, 0xff, 0xff, 0xff, 1},
		"cut off":     {0, 0, 0, 5, 1, 2},
		"cut header":  {0, 0},
		"not a frame": []byte("=== RUN   TestSomething\n"),
	} {
		if _, err := readFrame(bytes.NewReader(wire)); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if _, err := readFrame(bytes.NewReader(nil)); !errors.Is(err, io.EOF) {
		t.Errorf("at the end: got %v, want %v", err, io.EOF)
	}
	whole := someRequests[1].appendTo(nil)[frameHeader:]
	for n := range whole {
		if _, err := parseRequest(whole[:n]); !errors.Is(err, errFrame) {
			t.Errorf("the first %d bytes of a request: got %v, want %v", n, err, errFrame)
		}
	}
	if _, err := parseRequest(append(bytes.Clone(whole), 0)); !errors.Is(err, errFrame) {
		t.Errorf("a byte too many: got %v, want %v", err, errFrame)
	}
	a := someAnswers[3]
	whole = a.answer.appendTo(nil, a.op)[frameHeader:]
	for n := range whole {
		if _, err := parseAnswer(whole[:n], a.op); !errors.Is(err, errFrame) {
			t.Errorf("the first %d bytes of an answer: got %v, want %v", n, err, errFrame)
		}
	}
}

// FuzzRequest: what a worker reads is a request that means the same when it is written again, or an error.
func FuzzRequest(f *testing.F) {
	for _, r := range someRequests {
		f.Add(r.appendTo(nil))
	}
	f.Add([]byte{0, 0, 0, 12, 2, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1})
	f.Fuzz(func(t *testing.T, wire []byte) {
		content, err := readFrame(bytes.NewReader(wire))
		if err != nil {
			return
		}
		r, err := parseRequest(content)
		if err != nil {
			return
		}
		again, err := parseRequest(r.appendTo(nil)[frameHeader:])
		if diff := cmp.Diff(r, again, unexported); err != nil || diff != "" {
			t.Errorf("%v, want -, got +:\n%s", err, diff)
		}
	})
}

// FuzzAnswer: a worker that a script has taken over can write anything.
func FuzzAnswer(f *testing.F) {
	for _, a := range someAnswers {
		f.Add(byte(a.op), a.answer.appendTo(nil, a.op))
	}
	f.Fuzz(func(t *testing.T, op byte, wire []byte) {
		content, err := readFrame(bytes.NewReader(wire))
		if err != nil {
			return
		}
		a, err := parseAnswer(content, operation(op))
		if err != nil {
			return
		}
		again, err := parseAnswer(a.appendTo(nil, operation(op))[frameHeader:], operation(op))
		if diff := cmp.Diff(a, again, unexported); err != nil || diff != "" {
			t.Errorf("%v, want -, got +:\n%s", err, diff)
		}
	})
}
