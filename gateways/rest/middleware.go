package rest

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/prometheus/client_golang/prometheus"

	"lorikeet/messages"
)

// call is one request on its way through the door.
type call struct {
	echo.Context
	server *Server
	access messages.Access
}

func (c *call) ctx() context.Context { return c.Request().Context() }

// writeTime bounds what goes on after a client has left.
const writeTime = 30 * time.Second

// steadfast gives a context that does not end because the client goes away: a write of several steps is better finished.
func (c *call) steadfast() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(c.ctx()), writeTime)
}

func (c *call) app() string { return c.Param("application_id") }

func (c *call) device() messages.DeviceID {
	return messages.DeviceID{ApplicationID: c.app(), DeviceID: c.Param("device_id")}
}

// JSON answers with v. It is written only once it is whole, so that what can't be encoded is an error and not half an answer.
func (c *call) JSON(status int, v any) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode the answer: %w", err)
	}
	return c.Blob(status, "application/json", raw)
}

// empty answers {}.
func (c *call) empty() error { return c.JSON(http.StatusOK, struct{}{}) }

type metrics struct {
	requests *prometheus.CounterVec
	duration prometheus.Histogram
	panics   prometheus.Counter
	limited  prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "lorikeet_rest_requests_total", Help: "Requests by route and status."}, []string{"method", "route", "status"}),
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "lorikeet_rest_request_seconds", Help: "Time from a request's header to its answer.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 4, 9)}),
		panics:  prometheus.NewCounter(prometheus.CounterOpts{Name: "lorikeet_rest_panics_total", Help: "Requests that met a defect of the server."}),
		limited: prometheus.NewCounter(prometheus.CounterOpts{Name: "lorikeet_rest_limited_total", Help: "Requests refused after too many without a valid API key."}),
	}
	if reg != nil {
		reg.MustRegister(m.requests, m.duration, m.panics, m.limited)
	}
	return m
}

// routeKey is where guard leaves the path of the route in the echo context.
const routeKey = "lorikeet.route"

// observe surrounds every request, also those without a route: its id, its end, and what is counted and logged about it.
func (s *Server) observe(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		started := time.Now()
		limitFromFirstByte(c)
		header := c.Response().Header()
		header.Set("X-Request-Id", newRequestID(c.Request().Header.Get("X-Request-Id")))
		header.Set("X-Content-Type-Options", "nosniff")
		header.Set("Cache-Control", "no-store")
		if strings.HasPrefix(c.Request().URL.Path, prefix+"/") {
			allowBrowsers(c)
		}
		if err := s.protect(next, c); err != nil {
			s.fail(c, err)
		}
		took := time.Since(started)
		status := c.Response().Status
		route, _ := c.Get(routeKey).(string)
		if route == "" {
			route = "none"
		}
		method := c.Request().Method
		if !isMethod(method) { // both are labels: a client must not choose freely
			method = "other"
		}
		s.metrics.requests.WithLabelValues(method, route, strconv.Itoa(status)).Inc()
		s.metrics.duration.Observe(took.Seconds())
		s.log.LogAttrs(c.Request().Context(), slog.LevelDebug, "request answered", slog.String("method", method), slog.String("route", route),
			slog.Int("status", status), slog.Duration("took", took), slog.String("request_id", requestID(c)), slog.String("remote", c.RealIP()))
		return nil
	}
}

// limitFromFirstByte lets the time limit of an answer begin when it is written. The limit is for clients that don't read; what takes long to find out,
// such as the number of a million events, must not end in a connection that closes without a word.
func limitFromFirstByte(c echo.Context) {
	control := http.NewResponseController(c.Response().Writer)
	_ = control.SetWriteDeadline(time.Time{}) // without support there are no limits at all
	c.Response().Before(func() { _ = control.SetWriteDeadline(time.Now().Add(writeTimeout)) })
}

// allowBrowsers lets pages of any origin call the API, as The Things Stack does. They must have a key of their own: nothing here relies on cookies or on
// where a request comes from. An OPTIONS request itself is answered by echo.
func allowBrowsers(c echo.Context) {
	header := c.Response().Header()
	header.Set("Access-Control-Allow-Origin", "*")
	if c.Request().Method != http.MethodOptions {
		header.Set("Access-Control-Expose-Headers", "X-Request-Id, X-Total-Count, X-Warning, X-Continuation-Token, Retry-After")
		return
	}
	header.Set("Access-Control-Allow-Methods", "GET, POST, PUT, PATCH, DELETE")
	header.Set("Access-Control-Allow-Headers", "Authorization, Grpc-Metadata-Authorization, Content-Type, X-Csrf-Token, X-Request-Id, "+passphraseHeader)
	header.Set("Access-Control-Max-Age", "600")
}

func isMethod(m string) bool {
	switch m {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions:
		return true
	}
	return false
}

// protect makes an error of a panic. The value of a panic may hold what a client sent, so only that of the runtime is logged.
func (s *Server) protect(next echo.HandlerFunc, c echo.Context) (err error) {
	defer func() {
		r := recover()
		if r == nil {
			return
		}
		if r == http.ErrAbortHandler { //nolint:errorlint // net/http compares it so
			panic(r)
		}
		what := fmt.Sprintf("%T", r)
		if e, ok := r.(runtime.Error); ok {
			what = e.Error()
		}
		s.metrics.panics.Inc()
		s.log.LogAttrs(c.Request().Context(), slog.LevelError, "request met a defect", slog.String("route", c.Path()), slog.String("request_id", requestID(c)),
			slog.String("err", what), slog.String("stack", string(debug.Stack())))
		err = errDefect
	}()
	return next(c)
}

// guard is the only way to a handler: the access rule of the route first, then the ids in the path.
func (s *Server) guard(r route) echo.HandlerFunc {
	return func(ec echo.Context) error {
		ec.Set(routeKey, r.path)
		c := &call{Context: ec, server: s}
		if err := r.access(c); err != nil {
			return err
		}
		if err := checkParams(ec); err != nil {
			return err
		}
		return r.handler(s, c)
	}
}

// freeParams are parameters of paths that are not ids of The Things Stack's form; their handlers look at them.
var freeParams = []string{
	"key_id", "downlink_id", "user_id", "organization_id",
	"frequency_plan_id", "lorawan_phy_version", "band_id", "phy_version",
	"f_port", "index", "profile_id",
	"format_id",
	"type",
	"brand_id", "model_id", "firmware_version", "vendor_id", "vendor_profile_id",
	"*",
}

func checkParams(c echo.Context) error {
	// The router gives all that follows to a parameter at the end of a path. A slash in there is a path that nobody has, not a part of an id.
	if !strings.HasSuffix(c.Path(), "*") && strings.Count(c.Request().URL.EscapedPath(), "/") > strings.Count(c.Path(), "/") {
		return nothingAt(c)
	}
	for _, name := range c.ParamNames() {
		if slices.Contains(freeParams, name) {
			continue
		}
		if err := messages.ValidateID(c.Param(name)); err != nil {
			return messages.Invalid("invalid_id", "%s %q in the path: use 3 to 36 lower-case letters, digits and single dashes", name, shorten(c.Param(name)))
		}
	}
	return nil
}

// newRequestID takes the id of the client if it is harmless.
func newRequestID(given string) string {
	ok := given != "" && len(given) <= 64 && !strings.ContainsFunc(given, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_' || r == '.' || r == ':')
	})
	if ok {
		return given
	}
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails since Go 1.24
	return hex.EncodeToString(b[:])
}

func requestID(c echo.Context) string { return c.Response().Header().Get("X-Request-Id") }
