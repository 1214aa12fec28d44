package formatters

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"lorikeet/messages"
)

// maxWaiting calls of one script. Each is an uplink or a request that has a time-out of its own.
const maxWaiting = 4096

// slots shares a number of workers among scripts: scripts that wait take turns, and those that are risky leave one slot to the others.
type slots struct {
	total   int
	now     func() time.Time
	patient bool // nothing is parked

	mu        sync.Mutex
	scripts   *scripts
	turn      []*script // that wait, the next first
	waiting   int
	busy      int
	riskyBusy int
	closed    bool
	idle      []*process
}

// waiter is a call that waits for a slot.
type waiter struct {
	script  *script
	device  messages.DeviceID // zero: for none
	risky   bool              // when it got its slot
	granted chan error        // one value: nil with a slot, or why there will be none
	settled bool              // the value was sent
}

func newSlots(total int, now func() time.Time) *slots {
	return &slots{total: total, now: now, scripts: newScripts()}
}

func errClosed() error {
	return messages.Errorf(messages.CodeUnavailable, "formatter_unavailable", "the server is stopping: try again later")
}

// acquire waits for a slot to run a script for a device until ctx ends. The caller must release the slot.
func (s *slots) acquire(ctx context.Context, f messages.Formatter, l language, device messages.DeviceID) (*waiter, error) {
	w := &waiter{device: device, granted: make(chan error, 1)}
	s.mu.Lock()
	if err := s.enqueue(w, f, l); err != nil {
		s.mu.Unlock()
		return w, err
	}
	s.grant()
	s.mu.Unlock()
	select {
	case err := <-w.granted:
		return w, err
	case <-ctx.Done():
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !w.settled {
		s.remove(w)
	} else if err := <-w.granted; err == nil {
		s.free(w)
	}
	return w, fmt.Errorf("wait for a formatter worker: %w", context.Cause(ctx))
}

func (s *slots) enqueue(w *waiter, f messages.Formatter, l language) error {
	if s.closed {
		return errClosed()
	}
	w.script = s.scripts.get(f, l)
	if err := w.script.refused(s.now(), w.device); err != nil && !s.patient {
		return err
	}
	if len(w.script.waiting) >= maxWaiting {
		return messages.Errorf(messages.CodeExhausted, "formatter_busy", "%d calls wait for this script already: make it faster, or give the server more formatter workers", maxWaiting)
	}
	if w.script.waiting = append(w.script.waiting, w); len(w.script.waiting) == 1 {
		s.turn = append(s.turn, w.script)
	}
	s.waiting++
	return nil
}

// grant gives free slots to those whose turn it is.
func (s *slots) grant() {
	for s.busy < s.total {
		i := slices.IndexFunc(s.turn, s.mayRun)
		if i < 0 {
			return
		}
		script := s.turn[i]
		w := script.waiting[0]
		s.turn = slices.Delete(s.turn, i, i+1)
		if script.waiting = slices.Delete(script.waiting, 0, 1); len(script.waiting) > 0 {
			s.turn = append(s.turn, script)
		}
		s.waiting--
		s.busy++
		script.running++
		if w.risky = script.risky(); w.risky {
			s.riskyBusy++
		}
		w.settle(nil)
	}
}

func (s *slots) mayRun(script *script) bool {
	switch {
	case !script.risky():
		return true
	case script.conduct.strikes > 0 && script.running > 0:
		return false
	}
	return s.riskyBusy < max(s.total-1, 1)
}

func (w *waiter) settle(err error) {
	w.settled = true
	w.granted <- err
}

func (s *slots) remove(w *waiter) {
	w.script.waiting = slices.DeleteFunc(w.script.waiting, func(other *waiter) bool { return other == w })
	s.waiting--
	if len(w.script.waiting) == 0 {
		s.turn = slices.DeleteFunc(s.turn, func(other *script) bool { return other == w.script })
	}
}

// release gives back the slot with a process that can go on, or nil, and says how the call went: how long it took and why the script had to be stopped, if it had.
func (s *slots) release(w *waiter, p *process, took time.Duration, stopped error) (parked bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p != nil {
		s.idle = append(s.idle, p)
	}
	if parked = w.script.settle(s.now(), w.device, took, stopped) && !s.patient; parked {
		for _, other := range slices.Clone(w.script.waiting) {
			if err := w.script.refused(s.now(), other.device); err != nil {
				s.remove(other)
				other.settle(err)
			}
		}
	}
	s.free(w)
	return parked
}

func (s *slots) free(w *waiter) {
	s.busy--
	w.script.running--
	if w.risky {
		s.riskyBusy--
	}
	s.grant()
}

// process gives the process that was used last, whose memory is warm; nil if a new one is needed.
func (s *slots) process() (*process, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, errClosed()
	}
	n := len(s.idle)
	if n == 0 {
		return nil, nil
	}
	p := s.idle[n-1]
	s.idle = s.idle[:n-1]
	return p, nil
}

// close refuses all calls that wait and will come, and gives the idle processes.
func (s *slots) close() []*process {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for _, script := range slices.Clone(s.turn) {
		for _, w := range slices.Clone(script.waiting) {
			s.remove(w)
			w.settle(errClosed())
		}
	}
	idle := s.idle
	s.idle = nil
	return idle
}

// counts for the metrics.
func (s *slots) counts() (busy, waiting, parked int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.busy, s.waiting, s.scripts.parked(s.now())
}
