package webhook

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"lorikeet/messages"
)

const (
	maxResponse   = 64 << 10               // read, so that the connection can be kept
	maxDetail     = 1 << 10                // shown
	readTime      = 500 * time.Millisecond // for the body: the status has said it all, and the next event of the device waits
	refusedTries  = 5
	maxRetryAfter = time.Hour // also how long to wait for an endpoint that is gone
)

// readBody gives the beginning of the body that is shown, and reads a little more, so that the connection can be used again. It gives up, by cancel of the
// context of the request, on a body that goes on for too long.
func readBody(res *http.Response, cancel context.CancelFunc) (detail []byte) {
	defer res.Body.Close()
	if res.StatusCode/100 == 1 { // 101: what follows is no body but the bare connection, which no context ends
		return nil
	}
	defer time.AfterFunc(readTime, cancel).Stop()
	detail, _ = io.ReadAll(io.LimitReader(res.Body, maxDetail))
	_, _ = io.Copy(io.Discard, io.LimitReader(res.Body, maxResponse-maxDetail))
	return detail
}

// requestError tells what went wrong without the URL, which may hold a token.
func requestError(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("no answer in time: %w", context.DeadlineExceeded)
	}
	var dns *net.DNSError
	if errors.As(err, &dns) { // without the name server, which is the operator's
		return fmt.Errorf("request: look up %s: %s", dns.Name, dns.Err)
	}
	return fmt.Errorf("request: %w", err)
}

// StatusError is an answer other than 2xx.
type StatusError struct {
	Code       int
	Detail     string // the first 1 KiB of the body, printable
	retryAfter time.Duration
}

func (e *StatusError) Error() string {
	text := fmt.Sprintf("the endpoint answered %d %s", e.Code, http.StatusText(e.Code))
	switch {
	case e.Code/100 == 3:
		return text + ": redirects are not followed, set base_url to the final address"
	case e.Code == http.StatusGone:
		return text + ": it is asked once an hour only, change base_url or delete the webhook"
	}
	if e.Detail != "" {
		text += ": " + e.Detail
	}
	return text
}

// Unwrap is messages.ErrPermanent if the endpoint refuses this event, nil if a later try may succeed. A wrong credential (401, 403, 407)
// refuses every event alike, so these wait until it is put right.
func (e *StatusError) Unwrap() error {
	switch e.Code {
	case 401, 403, 407, http.StatusRequestTimeout, http.StatusMisdirectedRequest, http.StatusTooEarly, http.StatusTooManyRequests:
		return nil
	}
	if e.Code/100 == 4 {
		return messages.ErrPermanent
	}
	return nil
}

// Tries is how often a refused event is tried.
func (e *StatusError) Tries() int { return refusedTries }

// OfEndpoint says that the address is wrong or not there now, as while a proxy has lost what is behind it. That is a matter of the event only if others pass.
func (e *StatusError) OfEndpoint() bool {
	switch e.Code {
	case http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusGone:
		return true
	}
	return false
}

// RetryAfter is what the endpoint wishes, at most 1 h.
func (e *StatusError) RetryAfter() time.Duration { return e.retryAfter }

func retryAfter(res *http.Response, now time.Time) time.Duration {
	switch res.StatusCode {
	case http.StatusGone:
		return maxRetryAfter
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
	default:
		return 0
	}
	value := strings.TrimSpace(res.Header.Get("Retry-After"))
	seconds, err := strconv.ParseUint(value, 10, 32) // out of range: as much as there is
	if err == nil || errors.Is(err, strconv.ErrRange) {
		return min(time.Duration(seconds)*time.Second, maxRetryAfter)
	}
	at, err := http.ParseTime(value)
	if err != nil {
		return 0
	}
	return min(max(at.Sub(now), 0), maxRetryAfter)
}

func printable(b []byte) string {
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == '\uFFFD' {
			return ' '
		}
		return r
	}, string(b)))
}
