package webhook

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"lorikeet/messages"
)

const (
	maxResponse   = 64 << 10 // read, so that the connection can be kept
	maxDetail     = 1 << 10  // shown
	refusedTries  = 5
	maxRetryAfter = time.Hour
)

// requestError tells what went wrong without the URL, which may hold a token.
func requestError(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("no answer in time: %w", context.DeadlineExceeded)
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
	if e.Code/100 == 3 {
		return text + ": redirects are not followed, set base_url to the final address"
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
	case 401, 403, 407, http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
		return nil
	}
	if e.Code/100 == 4 {
		return messages.ErrPermanent
	}
	return nil
}

// Tries is how often a refused event is tried.
func (e *StatusError) Tries() int { return refusedTries }

// RetryAfter is what the endpoint wishes, at most 1 h.
func (e *StatusError) RetryAfter() time.Duration { return e.retryAfter }

func retryAfter(res *http.Response, now time.Time) time.Duration {
	if res.StatusCode != http.StatusTooManyRequests && res.StatusCode != http.StatusServiceUnavailable {
		return 0
	}
	value := strings.TrimSpace(res.Header.Get("Retry-After"))
	if seconds, err := strconv.ParseUint(value, 10, 32); err == nil {
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
