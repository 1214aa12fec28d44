package main

import (
	"context"
	"log/slog"
	"sync"

	"lorikeet/messages"
	v3 "lorikeet/messages/v3"
)

// cleaner removes the session records that devices leave behind when they are deleted, one by one or with their application. REST deletes them too,
// so that its caller can rely on it; this is for what it had no time for: at the start it looks for those of an earlier run.
type cleaner struct {
	devices  sessionDeleter
	registry deviceReader
	store    sessionScanner
	log      *slog.Logger

	mu      sync.Mutex
	pending []messages.Change
	wake    chan struct{}
	cancel  context.CancelFunc
	done    chan struct{}
}

type sessionDeleter interface {
	DeleteDevice(ctx context.Context, id messages.DeviceID) error
}

type deviceReader interface {
	Device(ctx context.Context, id messages.DeviceID) (v3.EndDevice, error)
}

type sessionScanner interface {
	ScanSessions(ctx context.Context, fn func(messages.DeviceID, []byte, messages.Revision) error) error
}

func newCleaner(devices sessionDeleter, registry deviceReader, store sessionScanner, log *slog.Logger) *cleaner {
	return &cleaner{devices: devices, registry: registry, store: store, log: log, wake: make(chan struct{}, 1), done: make(chan struct{})}
}

func (c *cleaner) start(ctx context.Context) {
	ctx, c.cancel = context.WithCancel(context.WithoutCancel(ctx))
	go c.run(ctx)
}

// changed notes a change of the registry; it does not block.
func (c *cleaner) changed(change messages.Change) {
	if !change.Deleted || change.Kind != messages.KindDevice {
		return
	}
	c.mu.Lock()
	c.pending = append(c.pending, change)
	c.mu.Unlock()
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

func (c *cleaner) run(ctx context.Context) {
	defer close(c.done)
	c.sweep(ctx)
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.wake:
		}
		c.mu.Lock()
		pending := c.pending
		c.pending = nil
		c.mu.Unlock()
		for _, change := range pending {
			if id, err := messages.ParseUID(change.ID); err == nil {
				c.forget(ctx, id)
			}
		}
	}
}

// forget deletes the session of a device that the registry does not know.
func (c *cleaner) forget(ctx context.Context, id messages.DeviceID) {
	if _, err := c.registry.Device(ctx, id); messages.CodeOf(err) != messages.CodeNotFound {
		return
	}
	if err := c.devices.DeleteDevice(ctx, id); err != nil && ctx.Err() == nil {
		c.log.Error("session of a deleted device is left until the next start; its uplinks are dropped", "application_id", id.ApplicationID, "device_id", id.DeviceID, "err", err)
	}
}

// sweep finds sessions without a device. They are deleted after the scan, which must not wait for writes.
func (c *cleaner) sweep(ctx context.Context) {
	var orphans []messages.DeviceID
	err := c.store.ScanSessions(ctx, func(id messages.DeviceID, _ []byte, _ messages.Revision) error {
		if _, err := c.registry.Device(ctx, id); messages.CodeOf(err) == messages.CodeNotFound {
			orphans = append(orphans, id)
		}
		return nil
	})
	if err != nil && ctx.Err() == nil {
		c.log.Error("search for sessions of deleted devices ended early", "err", err)
	}
	for _, id := range orphans {
		c.forget(ctx, id)
	}
}

func (c *cleaner) stop() {
	if c.cancel != nil {
		c.cancel()
		<-c.done
	}
}
