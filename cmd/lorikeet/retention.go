package main

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"lorikeet/messages"
	v3 "lorikeet/messages/v3"
)

// retentionRetry is when links are read again that could not be read.
const retentionRetry = time.Minute

type linkReader interface {
	Applications(ctx context.Context) ([]v3.Application, error)
	Link(ctx context.Context, application string) (v3.Link, error)
}

type retentionKeeper interface {
	SetRetention(applicationID string, r messages.Retention)
}

// retentions tells the store of this node how long each application wants its events kept.
type retentions struct {
	links linkReader
	store retentionKeeper
	log   *slog.Logger

	mu      sync.Mutex
	waiting map[string]struct{} // applications whose link is to be read

	wake   chan struct{}
	cancel context.CancelFunc
	done   chan struct{}
}

func startRetentions(links linkReader, store retentionKeeper, log *slog.Logger) *retentions {
	ctx, cancel := context.WithCancel(context.Background())
	r := &retentions{links: links, store: store, log: log, waiting: map[string]struct{}{}, wake: make(chan struct{}, 1), cancel: cancel, done: make(chan struct{})}
	go r.run(ctx)
	return r
}

func (r *retentions) stop() {
	r.cancel()
	<-r.done
}

// readAll looks at all applications.
func (r *retentions) readAll(ctx context.Context) error {
	apps, err := r.links.Applications(ctx)
	if err != nil {
		return err
	}
	for _, app := range apps {
		r.add(app.IDs.ApplicationID)
	}
	return nil
}

// changed does not block.
func (r *retentions) changed(c messages.Change) {
	if c.Kind == messages.KindLink {
		r.add(c.ID)
	}
}

func (r *retentions) add(app string) {
	r.mu.Lock()
	r.waiting[app] = struct{}{}
	r.mu.Unlock()
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

func (r *retentions) run(ctx context.Context) {
	defer close(r.done)
	retry := time.NewTicker(retentionRetry)
	defer retry.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.wake:
		case <-retry.C:
		}
		r.mu.Lock()
		apps := slices.Collect(maps.Keys(r.waiting))
		clear(r.waiting)
		r.mu.Unlock()
		for _, app := range apps {
			if err := r.read(ctx, app); err != nil && ctx.Err() == nil {
				r.log.Warn("retention of an application is not known at present; its events are kept", "application_id", app, "err", err)
				r.mu.Lock()
				r.waiting[app] = struct{}{} // for the next tick
				r.mu.Unlock()
			}
		}
	}
}

func (r *retentions) read(ctx context.Context, app string) error {
	link, err := r.links.Link(ctx, app)
	if err != nil && messages.CodeOf(err) != messages.CodeNotFound {
		return err
	}
	var keep messages.Retention // also of an application that was deleted
	if link.Retention != nil {
		keep = messages.Retention{MaxAge: time.Duration(link.Retention.MaxAge), MaxEvents: uint64(link.Retention.MaxEvents)}
	}
	r.store.SetRetention(app, keep)
	return nil
}
