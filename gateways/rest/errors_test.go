package rest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"lorikeet/messages"
	v3 "lorikeet/messages/v3"
)

// brokenRegistry fails on everything that is called here.
type brokenRegistry struct{ Registry }

func (brokenRegistry) Authorize(context.Context, string) (messages.Access, error) {
	return messages.Access{}, messages.Errorf(messages.CodeUnavailable, "moving", "try again later")
}

// failingRegistry gives one error for an application.
type failingRegistry struct {
	Registry
	err error
}

func (f failingRegistry) Application(context.Context, string) (v3.Application, error) {
	return v3.Application{}, f.err
}

func TestErrorsHaveTheFormOfTTS(t *testing.T) {
	t.Parallel()
	d := newDoor(t)
	base := d.server.cfg.Registry
	for name, c := range map[string]struct {
		err    error
		status int
		code   v3.Uint32
		error  string
	}{
		"invalid":         {messages.Invalid("bad_field", "use another"), 400, 3, "bad_field"},
		"precondition":    {messages.Errorf(messages.CodePrecondition, "no_f_port", "x"), 400, 9, "no_f_port"},
		"not found":       {messages.NotFound("application_not_found", "x"), 404, 5, "application_not_found"},
		"wrapped":         {fmt.Errorf("read: %w", messages.NotFound("application_not_found", "x")), 404, 5, "application_not_found"},
		"conflict":        {messages.Errorf(messages.CodeConflict, "id_taken", "x"), 409, 6, "id_taken"},
		"store conflict":  {fmt.Errorf("write: %w", messages.ErrConflict), 409, 6, "conflict"},
		"unauthenticated": {messages.Errorf(messages.CodeUnauthenticated, "unauthenticated", "x"), 401, 16, "unauthenticated"},
		"forbidden":       {messages.Errorf(messages.CodeForbidden, "no", "x"), 403, 7, "no"},
		"exhausted":       {messages.Errorf(messages.CodeExhausted, "full", "x"), 429, 8, "full"},
		"unavailable":     {messages.Errorf(messages.CodeUnavailable, "disk_full", "x"), 503, 14, "disk_full"},
		"deadline":        {fmt.Errorf("ask: %w", context.DeadlineExceeded), 504, 4, "deadline_exceeded"},
		"canceled":        {fmt.Errorf("ask: %w", context.Canceled), 499, 1, "canceled"},
		"internal":        {errors.New("disk sda1 at 0x7f is on fire"), 500, 13, "internal"},
		"named internal":  {messages.Errorf(messages.CodeInternal, "device_failed", "disk sda1 is on fire"), 500, 13, "internal"},
	} {
		d.server.cfg.Registry = failingRegistry{base, c.err}
		got := d.do("GET", "/applications/app1", nil).fails(c.status, c.error)
		e := got.err()
		detail := e.Details[0]
		if e.Code != c.code || detail.Code != c.code || detail.Type != "type.googleapis.com/ttn.lorawan.v3.ErrorDetails" || detail.Namespace != "pkg/lorikeet" ||
			!regexp.MustCompile(`^[0-9a-f]{32}$`).MatchString(detail.CorrelationID) || e.Message != "error:pkg/lorikeet:"+c.error+" ("+detail.MessageFormat+")" {
			t.Errorf("%s: %s", name, got.Body)
		}
		if got.Header.Get("X-Request-Id") != detail.CorrelationID {
			t.Errorf("%s: X-Request-Id %s", name, got.Header.Get("X-Request-Id"))
		}
		if c.status == 500 {
			if strings.Contains(got.Body, "sda1") {
				t.Errorf("%s shows detail: %s", name, got.Body)
			}
			if log := d.log.String(); !strings.Contains(log, "sda1") || !strings.Contains(log, detail.CorrelationID) {
				t.Errorf("%s is not in the log under its id", name)
			}
		}
	}
}

func TestCauseIsShownIfItHasAName(t *testing.T) {
	t.Parallel()
	d := newDoor(t)
	base := d.server.cfg.Registry
	d.server.cfg.Registry = failingRegistry{base, messages.Invalid("outer", "outer: %w", messages.Invalid("inner", "inner"))}
	if c := d.do("GET", "/applications/app1", nil).fails(400, "outer").err().Details[0].Cause; c == nil || c.Name != "inner" {
		t.Errorf("cause %+v", c)
	}
	d.server.cfg.Registry = failingRegistry{base, messages.Invalid("outer", "outer: %w", errors.New("something"))}
	if c := d.do("GET", "/applications/app1", nil).fails(400, "outer").err().Details[0].Cause; c != nil {
		t.Errorf("cause %+v", c)
	}
}

func TestUnknownPathsAndMethodsAreJSON(t *testing.T) {
	t.Parallel()
	d := newDoor(t)
	for _, path := range []string{"/nothing", "/api", "/api/v3", "/api/v3/", "/api/v3/applications/", "/api/v3/applications/app1/nothing", "/api/v2/applications", "/api/v3/%2e%2e/healthz", "/healthz/"} {
		got := d.send(httptest.NewRequest("GET", path, nil)).fails(404, "not_found")
		if !strings.Contains(got.Body, "/api/v3/applications") {
			t.Errorf("%s gives no hint: %s", path, got.Body)
		}
	}
	got := d.do("PATCH", "/applications/app1", `{}`).fails(405, "method_not_allowed")
	if allow := got.Header.Get("Allow"); !strings.Contains(allow, "PUT") || !strings.Contains(got.Body, "PUT") {
		t.Errorf("Allow %q, %s", allow, got.Body)
	}
	d.do("GET", "/as/applications/app1/devices/dev1/down/push", nil).fails(405, "method_not_allowed")
	for _, path := range []string{"/applications/App1", "/applications/a", "/applications/a%2Fb", "/applications/a.b", "/applications/" + strings.Repeat("a", 5000)} {
		d.do("GET", path, nil).fails(400, "invalid_id")
	}
	d.app("app1")
	d.do("GET", "/applications/app1/devices/DEV", nil).fails(400, "invalid_id")
	for _, path := range []string{"/gateways/gtw1/nothing", "/applications/app1/devices/dev1/", "/users/admin/nothing", "/gs/gateways/gtw1/nothing/at/all"} {
		d.do("GET", path, nil).fails(404, "not_found")
	}
}

func TestLimitsOfARequest(t *testing.T) {
	t.Parallel()
	d := newDoor(t)
	d.app("app1")
	long := strings.Repeat("x", maxBody)
	if got := d.do("PUT", "/applications/app1", `{"application":{"name":"`+long+`"}}`).fails(413, "body_too_large"); got.err().Code != 8 {
		t.Error(got.Body)
	}
	unread := httptest.NewRequest("PUT", prefix+"/applications/app1", unreadable{t})
	unread.Header.Set("Authorization", "Bearer "+adminKey)
	unread.ContentLength = maxBody + 1 // told beforehand
	d.send(unread).fails(413, "body_too_large")
	chunked := httptest.NewRequest("PUT", prefix+"/applications/app1", strings.NewReader(`{"application":{"name":"`+long+`"}}`))
	chunked.Header.Set("Authorization", "Bearer "+adminKey)
	chunked.ContentLength = -1
	d.send(chunked).fails(413, "body_too_large")
	script := strings.Repeat("-- <lua> & \\n", messages.MaxFormatterSource/13)
	d.do("PUT", "/as/applications/app1/link", `{"link":{"default_formatters":{"up_formatter":"FORMATTER_LUA","up_formatter_parameter":"`+script+`","down_formatter":"FORMATTER_LUA","down_formatter_parameter":"`+script+`"}}}`).is(200)
	req := httptest.NewRequest("PUT", prefix+"/applications/app1", strings.NewReader(`{}`))
	req.Header.Set("Authorization", "Bearer "+adminKey)
	req.Header.Set("Content-Encoding", "gzip")
	d.send(req).fails(400, "content_encoding")
	nested := strings.Repeat("[", 100_000)
	d.do("PUT", "/applications/app1", `{"application":{"x":`+nested+strings.Repeat("]", 100_000)+`}}`).fails(400, "decode_body")
	d.do("PUT", "/applications/app1", `{"application":{"description":"`+strings.Repeat(`[{\"`, 200)+`"}}`).is(200) // brackets in a text don't nest
}

// unreadable is a body that is refused before anything of it is read.
type unreadable struct{ testing.TB }

func (u unreadable) Read([]byte) (int, error) {
	u.Error("the body is read")
	return 0, io.EOF
}

// cutOff is a body whose connection breaks.
type cutOff struct{ text io.Reader }

func (c cutOff) Read(p []byte) (int, error) {
	if n, err := c.text.Read(p); err == nil {
		return n, nil
	}
	return 0, io.ErrUnexpectedEOF
}

func TestABodyThatDoesNotArriveIsTheClientsMistake(t *testing.T) {
	t.Parallel()
	d := newDeviceDoor(t)
	req := httptest.NewRequest("POST", prefix+"/as/applications/app1/devices/abp1/down/replace", cutOff{strings.NewReader(`{"downlinks":[]}`)})
	req.Header.Set("Authorization", "Bearer "+adminKey)
	d.send(req).fails(400, "read_body")
}

func TestAnAnswerThatCantBeWrittenIsAnError(t *testing.T) {
	t.Parallel()
	d := newDoor(t, func(c *Config) {
		c.IntegrationHealth = func(string, string, string) json.RawMessage { return json.RawMessage(`{"half`) }
	})
	d.app("app1")
	d.do("PUT", "/as/webhooks/app1/wh1", hook).fails(500, "internal")
}

func TestRequestID(t *testing.T) {
	t.Parallel()
	d := newDoor(t)
	for given, kept := range map[string]bool{"abc-1": true, "": false, "a b": false, "<script>": false, strings.Repeat("a", 65): false} {
		req := httptest.NewRequest("GET", "/healthz", nil)
		req.Header.Set("X-Request-Id", given)
		got := d.send(req).Header.Get("X-Request-Id")
		if (got == given) != kept || got == "" {
			t.Errorf("%q gives %q", given, got)
		}
	}
	h := d.do("GET", "/applications", nil).Header
	if h.Get("Cache-Control") != "no-store" || h.Get("X-Content-Type-Options") != "nosniff" || h.Get("Content-Type") != "application/json" {
		t.Errorf("header %v", h)
	}
}

func TestPagesOfAnyOriginMayCall(t *testing.T) {
	t.Parallel()
	d := newDoor(t)
	req := httptest.NewRequest("OPTIONS", prefix+"/applications", nil)
	req.Header.Set("Origin", "https://dashboard.example.com")
	req.Header.Set("Access-Control-Request-Method", "GET")
	h := d.send(req).is(204).Header
	if h.Get("Access-Control-Allow-Origin") != "*" || !strings.Contains(h.Get("Access-Control-Allow-Headers"), "Authorization") || !strings.Contains(h.Get("Access-Control-Allow-Methods"), "DELETE") {
		t.Errorf("preflight %v", h)
	}
	h = d.do("GET", "/applications", nil).is(200).Header
	if h.Get("Access-Control-Allow-Origin") != "*" || !strings.Contains(h.Get("Access-Control-Expose-Headers"), "X-Total-Count") || h.Get("Access-Control-Allow-Credentials") != "" {
		t.Errorf("header %v", h)
	}
	if h := d.send(httptest.NewRequest("GET", "/healthz", nil)).Header; h.Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("header %v", h)
	}
}

func TestErrorTextIsSafeInHTML(t *testing.T) {
	t.Parallel()
	d := newDoor(t)
	if got := d.do("GET", "/applications?order=<script>", nil).fails(400, "invalid_order"); strings.Contains(got.Body, "<script>") {
		t.Error(got.Body)
	}
}

func TestServerGoesOnAfterADefect(t *testing.T) {
	t.Parallel()
	d := newDoor(t, func(c *Config) { c.Ready = func() error { var none []error; return none[len(c.Version)] } })
	d.send(httptest.NewRequest(http.MethodGet, "/readyz", nil)).fails(500, "internal")
	if log := d.log.String(); !strings.Contains(log, "index out of range") || !strings.Contains(log, "request met a defect") {
		t.Errorf("the log does not say what happened: %s", log)
	}
	d.send(httptest.NewRequest(http.MethodGet, "/healthz", nil)).is(200)
}
