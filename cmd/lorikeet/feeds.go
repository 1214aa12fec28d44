package main

import (
	"context"
	"log/slog"
	"sync"
	"time"

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
	// Asked here, so that nothing is missed from now on, but not waited for: this is called after each write of the registry.
	last, err := f.endOf(ctx, app, endPatience)
	f.wg.Go(func() {
		defer unwatch()
		for err != nil {
			f.log.Warn("live events begin later; trying again", "application_id", app, "err", err)
			select {
			case <-ctx.Done():
				return
			case <-time.After(endPatience):
			}
			last, err = f.endOf(ctx, app, 10*time.Second)
		}
		f.follow(ctx, app, last, changed)
	})
}

// endPatience is more than an embedded store takes to tell where a log ends.
const endPatience = 200 * time.Millisecond

// endOf is where the log of an application ends now.
func (f *feeds) endOf(ctx context.Context, app string, patience time.Duration) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	_, last, err := f.store.LogRange(ctx, app)
	return last, err
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
