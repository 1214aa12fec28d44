package broker

import (
	"context"
	"log/slog"
)

// quiet passes on what the MQTT library logs: without the packets, which hold payloads and passwords, and one level lower, since most of it is caused by
// clients.
type quiet struct{ slog.Handler }

func (q quiet) Enabled(ctx context.Context, l slog.Level) bool { return q.Handler.Enabled(ctx, l-4) }

func (q quiet) Handle(ctx context.Context, r slog.Record) error {
	out := slog.NewRecord(r.Time, r.Level-4, r.Message, r.PC)
	r.Attrs(func(a slog.Attr) bool {
		if harmless(a) {
			out.AddAttrs(a)
		}
		return true
	})
	return q.Handler.Handle(ctx, out)
}

func (q quiet) WithAttrs(attrs []slog.Attr) slog.Handler {
	kept := make([]slog.Attr, 0, len(attrs))
	for _, a := range attrs {
		if harmless(a) {
			kept = append(kept, a)
		}
	}
	return quiet{q.Handler.WithAttrs(kept)}
}

func (q quiet) WithGroup(name string) slog.Handler { return quiet{q.Handler.WithGroup(name)} }

// harmless lets through plain values, and errors, whose texts are constant in the library. Whatever else is given may hold anything.
func harmless(a slog.Attr) bool {
	switch a.Key {
	case "pk", "packet", "payload", "password", "username":
		return false
	}
	if a.Value.Kind() != slog.KindAny {
		return true
	}
	_, isError := a.Value.Any().(error)
	return isError
}
