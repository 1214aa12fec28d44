package node

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/asynkron/protoactor-go/actor"
)

const (
	logWindow = 10 * time.Second
	logBurst  = 5 // records with one message in a window
)

// quietHandler takes what the actor system logs: one level lower, a few of each kind, and never with the content of messages, which may hold keys.
type quietHandler struct {
	slog.Handler
	limit *logLimit
}

func newQuietHandler(log *slog.Logger) slog.Handler {
	return quietHandler{log.With("component", "actors").Handler(), newLogLimit()}
}

const oneLevel = slog.LevelInfo - slog.LevelDebug

// Enabled says whether the lower level is wanted.
func (h quietHandler) Enabled(ctx context.Context, l slog.Level) bool {
	return h.Handler.Enabled(ctx, l-oneLevel)
}

// Handle passes a record on.
func (h quietHandler) Handle(ctx context.Context, r slog.Record) error {
	dropped, ok := h.limit.allow(r.Message, r.Time)
	if !ok {
		return nil
	}
	out := slog.NewRecord(r.Time, r.Level-oneLevel, r.Message, r.PC)
	r.Attrs(func(a slog.Attr) bool {
		out.AddAttrs(withoutContent(a))
		return true
	})
	if dropped > 0 {
		out.AddAttrs(slog.Int("dropped", dropped))
	}
	return h.Handler.Handle(ctx, out)
}

// WithAttrs keeps the limits.
func (h quietHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	clean := make([]slog.Attr, len(attrs))
	for i, a := range attrs {
		clean[i] = withoutContent(a)
	}
	return quietHandler{h.Handler.WithAttrs(clean), h.limit}
}

// WithGroup keeps the limits.
func (h quietHandler) WithGroup(name string) slog.Handler {
	return quietHandler{h.Handler.WithGroup(name), h.limit}
}

// withoutContent leaves the type of a value of which it does not know that it is harmless.
func withoutContent(a slog.Attr) slog.Attr {
	if a.Value.Kind() != slog.KindAny && a.Value.Kind() != slog.KindLogValuer {
		return a
	}
	switch v := a.Value.Any().(type) {
	case nil:
	case error:
		return slog.String(a.Key, v.Error())
	case *actor.PID:
		return slog.String(a.Key, v.GetAddress()+"/"+v.GetId())
	default:
		return slog.String(a.Key, fmt.Sprintf("%T", v))
	}
	return a
}

type logLimit struct {
	mu      sync.Mutex
	windows map[string]*logCount
}

type logCount struct {
	began          time.Time
	count, dropped int
}

func newLogLimit() *logLimit { return &logLimit{windows: map[string]*logCount{}} }

// allow says whether one more record with this message may pass, and how many did not since the last one that did.
func (l *logLimit) allow(message string, now time.Time) (dropped int, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	w := l.windows[message]
	if w == nil {
		if len(l.windows) > 1000 {
			clear(l.windows)
		}
		w = &logCount{began: now}
		l.windows[message] = w
	}
	if now.Sub(w.began) >= logWindow {
		w.began, w.count = now, 0
	}
	if w.count++; w.count > logBurst {
		w.dropped++
		return 0, false
	}
	dropped, w.dropped = w.dropped, 0
	return dropped, true
}
