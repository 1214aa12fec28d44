package formatters

import (
	"context"
	"sync"
	"time"

	"lorikeet/messages"
)

// budget ends a call's context when this process has used the processor for a time since the call began.
type budget struct {
	mu     sync.Mutex
	timer  *time.Timer
	cancel context.CancelCauseFunc // nil between calls
	limit  time.Duration
	start  time.Duration // processor time
}

func newBudget() *budget {
	b := &budget{}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.timer = time.AfterFunc(time.Hour, b.check)
	b.timer.Stop()
	return b
}

func (b *budget) begin(limit time.Duration) context.Context {
	b.mu.Lock()
	defer b.mu.Unlock()
	ctx, cancel := context.WithCancelCause(context.Background())
	b.cancel, b.limit, b.start = cancel, limit, ownProcessorTime()
	b.timer.Reset(limit)
	return ctx
}

func (b *budget) check() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.cancel == nil {
		return
	}
	if left := b.limit - (ownProcessorTime() - b.start); left > 0 {
		b.timer.Reset(max(left, 2*time.Millisecond))
		return
	}
	b.cancel(messages.Invalid("formatter_limit", "the script used more than %s of processor time: simplify it", b.limit))
}

func (b *budget) end() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.timer.Stop()
	b.cancel(nil)
	b.cancel = nil
}
