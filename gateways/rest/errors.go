package rest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"strings"

	"github.com/labstack/echo/v4"

	"lorikeet/messages"
	v3 "lorikeet/messages/v3"
)

// errDefect is what a panic became; it is logged already.
var errDefect = messages.Errorf(messages.CodeInternal, "defect", "defect")

const namespace = "lorikeet"

// statusError is an Error whose HTTP status is not that of its class.
type statusError struct {
	err    *messages.Error
	status int
	grpc   v3.Uint32
}

func (e *statusError) Error() string { return e.err.Error() }
func (e *statusError) Unwrap() error { return e.err }

// errorBody is an error as The Things Stack writes it.
type errorBody struct {
	Code    v3.Uint32     `json:"code"`
	Message string        `json:"message"`
	Details []errorDetail `json:"details"`
}

type errorDetail struct {
	Type string `json:"@type"`
	*v3.ErrorDetails
}

// fail answers a request that did not work out. Nothing of an internal error is shown; it is logged under the id that the client sees.
func (s *Server) fail(c echo.Context, err error) {
	if c.Response().Committed {
		return
	}
	err = classify(c, err)
	status := v3.HTTPStatus(messages.CodeOf(err))
	details := v3.DetailsOf(namespace, err)
	if own := (*statusError)(nil); errors.As(err, &own) {
		status, details.Code = own.status, own.grpc
	}
	details.CorrelationID = requestID(c)
	if details.Cause != nil && details.Cause.Name == "internal" { // a cause without a name: its words are in the message
		details.Cause = nil
	}
	if status >= http.StatusInternalServerError && !errors.Is(err, errDefect) {
		level := slog.LevelWarn // the client will try again
		if status == http.StatusInternalServerError {
			level = slog.LevelError
		}
		s.log.LogAttrs(c.Request().Context(), level, "request failed", slog.String("method", c.Request().Method), slog.String("route", c.Path()),
			slog.Int("status", status), slog.String("request_id", requestID(c)), slog.Any("err", err))
	}
	body := errorBody{
		Code: details.Code, Message: fmt.Sprintf("error:pkg/%s:%s (%s)", namespace, details.Name, details.MessageFormat),
		Details: []errorDetail{{Type: "type.googleapis.com/ttn.lorawan.v3.ErrorDetails", ErrorDetails: details}},
	}
	if err := c.JSON(status, body); err != nil {
		s.log.LogAttrs(c.Request().Context(), slog.LevelDebug, "error not delivered", slog.Any("err", err))
	}
}

// classify makes an error of ours of what echo, net/http and contexts give.
func classify(c echo.Context, err error) error {
	var ours *messages.Error
	var fromEcho *echo.HTTPError
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return &statusError{status: http.StatusRequestEntityTooLarge, grpc: 8, err: messages.Errorf(messages.CodeExhausted, "body_too_large",
			"the body has more than %s bytes: send less, or in several requests", strconv.FormatInt(tooLarge.Limit, 10))}
	case errors.As(err, &ours):
		return named(c.Path(), ours, err)
	case errors.As(err, &fromEcho):
		return classifyEcho(c, fromEcho)
	case errors.Is(err, context.DeadlineExceeded):
		return &statusError{status: http.StatusGatewayTimeout, grpc: 4, err: messages.Errorf(messages.CodeUnavailable, "deadline_exceeded", "the server did not finish in time: try again")}
	case errors.Is(err, context.Canceled):
		return &statusError{status: 499, grpc: 1, err: messages.Errorf(messages.CodeInvalid, "canceled", "the request was given up")}
	}
	return err
}

// named gives what a server of The Things Stack calls it: only the Identity Server speaks of an end_device_not_found.
func named(path string, ours *messages.Error, err error) error {
	if ours.Name != "end_device_not_found" || !belowServer(path) {
		return err
	}
	return &messages.Error{Code: ours.Code, Name: "device_not_found", Message: ours.Message, Cause: ours.Cause}
}

func belowServer(path string) bool {
	for _, server := range []string{"/as/", "/ns/", "/js/"} {
		if strings.HasPrefix(path, prefix+server) {
			return true
		}
	}
	return false
}

func classifyEcho(c echo.Context, err *echo.HTTPError) error {
	switch err.Code {
	case http.StatusNotFound:
		return nothingAt(c)
	case http.StatusMethodNotAllowed:
		allow, _ := c.Get(echo.ContextKeyHeaderAllow).(string)
		return &statusError{status: http.StatusMethodNotAllowed, grpc: 12, err: messages.Errorf(messages.CodeInvalid, "method_not_allowed",
			"%s is not possible here: use one of %s", shorten(c.Request().Method), allow)}
	}
	return err
}

func nothingAt(c echo.Context) error {
	return messages.NotFound("not_found", "there is nothing at %q: paths start with /api/v3, e.g. GET /api/v3/applications", shorten(c.Request().URL.Path))
}

// shorten keeps what a caller sent from filling answers and logs.
func shorten(s string) string {
	if len(s) > 64 {
		return s[:64] + "…"
	}
	return s
}
