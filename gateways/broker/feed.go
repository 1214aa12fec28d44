package broker

import (
	"context"
	"time"

	"lorikeet/messages"
)

// feed follows the log of an application, from the time on when it was started.
type feed struct {
	app     *application
	changed <-chan struct{}
	unwatch func()
	ctx     context.Context
	stop    context.CancelFunc
}

// use makes the events of an application come as long as someone uses it: whatever is committed after its return is seen. The log of an application
// that nobody subscribes to is not read.
func (s *Server) use(ctx context.Context, app *application) error {
	app.feedMu.Lock()
	defer app.feedMu.Unlock()
	if app.users == 0 {
		f := &feed{app: app}
		f.changed, f.unwatch = s.cfg.Store.WatchLog(app.id)
		_, last, err := s.cfg.Store.LogRange(ctx, app.id)
		if err != nil {
			f.unwatch()
			return messages.Errorf(messages.CodeUnavailable, "unavailable", "find the end of the log of %s: %w", app.id, err)
		}
		f.ctx, f.stop = context.WithCancel(s.ctx)
		app.mu.Lock()
		app.position.Store(last)
		app.feed = f
		app.mu.Unlock()
		s.background.Go(func() { s.follow(f) })
	}
	app.users++
	return nil
}

// disuse ends a use.
func (s *Server) disuse(app *application) {
	app.feedMu.Lock()
	defer app.feedMu.Unlock()
	if app.users--; app.users > 0 {
		return
	}
	app.mu.Lock()
	defer app.mu.Unlock()
	app.feed.stop()
	app.feed = nil
}

// follow hands out the events in the order of the log. It waits for clients that are far behind while they read fast, and for others not longer than
// 50 ms in a second.
func (s *Server) follow(f *feed) {
	defer f.unwatch()
	for f.ctx.Err() == nil {
		entries, err := s.cfg.Store.ReadLog(f.ctx, f.app.id, f.app.position.Load(), 2*readBatch)
		if err != nil && f.ctx.Err() == nil {
			s.log.Error("live events are interrupted; trying again", "application_id", f.app.id, "err", err)
		}
		for i := range entries {
			if behind := f.app.publish(f, &entries[i]); behind != nil {
				f.app.wait(behind)
			}
		}
		switch {
		case len(entries) > 0:
			continue
		case err != nil:
			if !pause(f.ctx, retryPause) {
				return
			}
			continue
		}
		select {
		case <-f.ctx.Done():
			return
		case <-f.changed:
		}
	}
}

// pause is false if ctx ends before.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
