package webhook

import (
	"time"

	"lorikeet/messages"
	v3 "lorikeet/messages/v3"
)

const (
	maxBatchEvents  = 100
	maxBatchWait    = time.Minute
	defaultMaxWait  = time.Second
	defaultInABatch = 50
)

// batch is how many events a request takes, and how long one that is not full waits.
type batch struct {
	events int
	wait   time.Duration
}

// newBatch reads the setting; nil if events go one by one.
func newBatch(hook v3.Webhook) (*batch, error) {
	if hook.Batch == nil {
		return nil, nil
	}
	b := &batch{events: int(hook.Batch.MaxEvents), wait: time.Duration(hook.Batch.MaxWait)}
	if b.events == 0 {
		b.events = defaultInABatch
	}
	if b.wait == 0 {
		b.wait = defaultMaxWait
	}
	switch {
	case hook.Format == formatProtobuf:
		return nil, messages.Invalid("webhook_batch", "batch: there is no protobuf form of several events, use format json")
	case b.events > maxBatchEvents:
		return nil, messages.Invalid("webhook_batch", "batch.max_events %d: use 1 to %d", b.events, maxBatchEvents)
	case b.wait < 0 || b.wait > maxBatchWait:
		return nil, messages.Invalid("webhook_batch", `batch.max_wait %s: use "0.1s" to "60s"`, b.wait)
	}
	return b, nil
}

// Batch says how many events a request takes at most, and how long one that is not full waits. 1: events go one by one, at once.
func (w *Webhook) Batch() (events int, wait time.Duration) {
	if w.batch == nil {
		return 1, 0
	}
	return w.batch.events, w.batch.wait
}
