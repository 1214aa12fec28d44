package gateways

import (
	"sync"
	"time"

	"lorikeet/messages"
)

// ConnectionTracker keeps the state of one connection that is made anew for ever. Its zero value is not usable: see NewConnectionTracker.
type ConnectionTracker struct {
	notify func(what, reason string)
	stop   sync.Once

	mu    sync.Mutex
	state messages.ConnectionState
}

// NewConnectionTracker starts with a connection that is being made. notify hears what becomes of it, messages.NoticeStarted and so on; it must not block,
// and may be nil.
func NewConnectionTracker(notify func(what, reason string)) *ConnectionTracker {
	if notify == nil {
		notify = func(string, string) {}
	}
	return &ConnectionTracker{notify: notify, state: messages.ConnectionState{State: messages.ConnectionConnecting, Since: time.Now()}}
}

// Up notes that the connection is there.
func (t *ConnectionTracker) Up() {
	defer t.notify(messages.NoticeStarted, "")
	t.mu.Lock()
	defer t.mu.Unlock()
	t.set(messages.ConnectionConnected)
	t.state.Connects++
}

// Down notes that it is not, or that one more try failed. reason is shown to people: no secrets. "" keeps the last one.
func (t *ConnectionTracker) Down(reason string) {
	if reason != "" {
		defer t.notify(messages.NoticeFailed, reason)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.set(messages.ConnectionConnecting)
	t.note(reason)
}

// Stop notes that the connection was ended by ourselves and is not made again.
func (t *ConnectionTracker) Stop() { t.stop.Do(func() { t.notify(messages.NoticeStopped, "") }) }

// Error notes what the other side reported on a connection that stays.
func (t *ConnectionTracker) Error(reason string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.note(reason)
}

func (t *ConnectionTracker) set(state string) {
	if t.state.State != state {
		t.state.State, t.state.Since = state, time.Now()
	}
}

func (t *ConnectionTracker) note(reason string) {
	if reason != "" {
		now := time.Now()
		t.state.LastError, t.state.LastErrorAt = reason, &now
	}
}

// State of the connection now.
func (t *ConnectionTracker) State() messages.ConnectionState {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.state
}
