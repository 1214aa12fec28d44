package main

import (
	"context"
	"log/slog"
	"sync"

	"lorikeet/messages"
)

// eventLog is the part of the store that live subscribers need.
type eventLog interface {
	ReadLog(ctx context.Context, app string, after uint64, limit int) ([]messages.LogEntry, error)
	LogRange(ctx context.Context, app string) (first, last uint64, err error)
	WatchLog(app string) (<-chan struct{}, func())
}

// feeds shows the broker each event of each application as it is committed. Who was not there before the start gets nothing of before it.
type feeds struct {
	store   eventLog
	publish func(messages.LogEntry)
	log     *slog.Logger

	mu      sync.Mutex
	running map[string]context.CancelFunc
	wg      sync.WaitGroup
}

func newFeeds(store eventLog, publish func(messages.LogEntry), log *slog.Logger) *feeds {
	return &feeds{store: store, publish: publish, log: log, running: map[string]context.CancelFunc{}}
}

// start follows an application, from now on.
func (f *feeds) start(app string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.running == nil || f.running[app] != nil {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	f.running[app] = cancel
	changed, unwatch := f.store.WatchLog(app)
	_, last, err := f.store.LogRange(ctx, app)
	if err != nil {
		f.log.Error("live events start at the beginning of the log", "application_id", app, "err", err)
	}
	f.wg.Go(func() {
		defer unwatch()
		f.follow(ctx, app, last, changed)
	})
}

func (f *feeds) follow(ctx context.Context, app string, after uint64, changed <-chan struct{}) {
	for {
		entries, err := f.store.ReadLog(ctx, app, after, 256)
		if err != nil && ctx.Err() == nil {
			f.log.Error("live events are interrupted until the next one", "application_id", app, "err", err)
		}
		for _, e := range entries {
			f.publish(e)
			after = e.Seq
		}
		if len(entries) > 0 {
			continue
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		}
	}
}

// end stops following an application that was deleted.
func (f *feeds) end(app string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if cancel := f.running[app]; cancel != nil {
		cancel()
		delete(f.running, app)
	}
}

func (f *feeds) stop() {
	f.mu.Lock()
	for _, cancel := range f.running {
		cancel()
	}
	f.running = nil
	f.mu.Unlock()
	f.wg.Wait()
}
