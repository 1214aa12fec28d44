package broker

import (
	"context"
	"runtime"
	"time"

	"lorikeet/messages"
)

// commit appends an event to the log of its application.
func (s *Server) commit(e messages.LogEntry) (last uint64) {
	store := s.cfg.Store.(interface {
		Store
		Commit(ctx context.Context, c messages.Commit) (messages.Revision, error)
	})
	if _, err := store.Commit(context.Background(), messages.Commit{Device: e.Device, Events: []messages.Event{e.Event}}); err != nil {
		panic(err)
	}
	_, last, err := store.LogRange(context.Background(), e.Device.ApplicationID)
	if err != nil {
		panic(err)
	}
	return last
}

// Publish commits an event and comes back when the feed of its application, if there is one, has handed it out.
func (s *Server) Publish(e messages.LogEntry) {
	s.mu.Lock()
	closed := s.closed
	s.mu.Unlock()
	if closed {
		return
	}
	last := s.commit(e)
	v, ok := s.apps.Load(e.Device.ApplicationID)
	if !ok {
		return
	}
	app := v.(*application)
	for spins := 0; ; spins++ {
		app.mu.Lock()
		done := app.feed == nil || app.position.Load() >= last
		app.mu.Unlock()
		switch {
		case done:
			return
		case spins < 100:
			runtime.Gosched()
		default:
			time.Sleep(20 * time.Microsecond)
		}
	}
}
