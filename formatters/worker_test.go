package formatters

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"lorikeet/messages"
)

// serve gives the answers of a worker to some requests.
func serve(t *testing.T, requests ...request) []answer {
	t.Helper()
	var in, out bytes.Buffer
	for i := range requests {
		requests[i].timeout = 10 * time.Second
		in.Write(requests[i].appendTo(nil))
	}
	if err := newWorker().serve(&in, &out); err != nil {
		t.Fatal(err)
	}
	greeting, err := readFrame(&out)
	if err != nil || string(greeting) != hello {
		t.Fatalf("the worker said %q (%v), want %q", greeting, err, hello)
	}
	var answers []answer
	for _, r := range requests {
		content, err := readFrame(&out)
		if err != nil {
			t.Fatal(err)
		}
		a, err := parseAnswer(content, r.op)
		if err != nil {
			t.Fatal(err)
		}
		answers = append(answers, a)
	}
	if out.Len() > 0 {
		t.Errorf("%d bytes too many", out.Len())
	}
	return answers
}

func TestWorkerKeepsScripts(t *testing.T) {
	t.Parallel()
	const source = `function decodeUplink() { return {data: {a: 1}} }`
	first := request{op: opDecodeUplink, language: javaScript, id: 1, new: true, source: source}
	again, unknown := request{op: opDecodeUplink, language: javaScript, id: 1}, request{op: opDecodeUplink, language: javaScript, id: 2}
	answers := serve(t, first, again, unknown)
	for i, want := range []status{statusOK, statusOK, statusUnknown} {
		if answers[i].status != want {
			t.Errorf("answer %d: status %d, want %d (%v)", i, answers[i].status, want, answers[i].err)
		}
	}
	var requests []request
	for id := range uint64(maxPrograms + 1) {
		requests = append(requests, request{op: opDecodeUplink, language: javaScript, id: id, new: true, source: source})
	}
	requests = append(requests, request{op: opDecodeUplink, language: javaScript, id: 0}, request{op: opDecodeUplink, language: javaScript, id: 1})
	answers = serve(t, requests...)
	if first, second := answers[len(answers)-2].status, answers[len(answers)-1].status; first != statusUnknown || second != statusOK {
		t.Errorf("the script that was used longest ago: status %d, the next %d; want %d and %d", first, second, statusUnknown, statusOK)
	}
}

func TestWorkerForgetsLargeScriptsFirst(t *testing.T) {
	t.Parallel()
	var requests []request
	large := fmt.Sprintf("function decodeUplink() { return {data: {}} } /*%0*d*/", messages.MaxFormatterSource-100, 0)
	n := maxProgramSource/len(large) + 1
	for id := range uint64(n) {
		requests = append(requests, request{op: opDecodeUplink, language: javaScript, id: id, new: true, source: large})
	}
	answers := serve(t, append(requests, request{op: opDecodeUplink, language: javaScript, id: 0}, request{op: opDecodeUplink, language: javaScript, id: uint64(n - 1)})...)
	if first, last := answers[n].status, answers[n+1].status; first != statusUnknown || last != statusOK {
		t.Errorf("first %d, last %d; want %d and %d", first, last, statusUnknown, statusOK)
	}
}

func TestWorkerRemembersThatAScriptIsBroken(t *testing.T) {
	t.Parallel()
	for _, a := range serve(t, request{op: opCheck, language: javaScript, id: 1, new: true, source: "var"}, request{op: opDecodeUplink, language: javaScript, id: 1}) {
		if a.status != statusError || a.err.Name != "formatter_compile" {
			t.Errorf("got status %d, error %v", a.status, a.err)
		}
	}
}

func TestFailedNormalizationLeavesTheData(t *testing.T) {
	t.Parallel()
	for language, source := range map[language]string{
		javaScript: `function decodeUplink() { return {data: {a: 1}} } function normalizeUplink() { throw new Error('mine') }`,
		luaScript:  `function decodeUplink() return {data = {a = 1}} end function normalizeUplink() error('mine') end`,
	} {
		a := serve(t, request{op: opDecodeUplink, language: language, id: 1, new: true, source: source})[0]
		if a.status != statusOK || string(a.decoded.Data) != `{"a":1}` || a.decoded.Normalized != nil || a.err == nil || !strings.Contains(a.err.Message, "normalizeUplink: mine") {
			t.Errorf("language %d: got %+v, error %v", language, a.decoded, a.err)
		}
	}
}

func TestWorkerEndsAtAMalformedRequest(t *testing.T) {
	t.Parallel()
	for _, wire := range [][]byte{{0, 0, 0, 1, 99}, {0, 0, 0, 9, 1}, {0xff, 0xff, 0xff, 0xff}} {
		var out bytes.Buffer
		if err := newWorker().serve(bytes.NewReader(wire), &out); err == nil {
			t.Errorf("%x: no error", wire)
		}
	}
}

func TestBudgetEndsTheContext(t *testing.T) {
	t.Parallel()
	b := newBudget()
	ctx := b.begin(20 * time.Millisecond)
	for n := 0; ctx.Err() == nil; n++ { // what the budget is for
	}
	b.end()
	next := b.begin(time.Hour)
	if next.Err() != nil {
		t.Errorf("the next call begins with %v", next.Err())
	}
	b.end()
	if next.Err() == nil {
		t.Error("the context of a call goes on after it")
	}
}
