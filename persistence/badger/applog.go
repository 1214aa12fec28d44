package badger

import (
	"cmp"
	"maps"
	"slices"
	"sync"

	"lorikeet/messages"
)

const (
	ringEntries = 1024    // of one application
	ringBytes   = 2 << 20 // of one application
	ringTotal   = 64 << 20
	readBytes   = 4 << 20 // about what one ReadLog gives at most
	readDefault = 1000
)

// appLog is the durable view of one application's log: what is told to readers.
type appLog struct {
	mu       sync.RWMutex
	meta     logMeta
	ring     ring
	watchers map[chan struct{}]struct{}
}

// ring holds the newest entries, in order, so that whoever follows the log closely never reads from the database.
type ring struct {
	entries []messages.LogEntry // the first of them at head, going round
	head, n int
	bytes   int
}

func entryBytes(e *messages.LogEntry) int { return len(e.JSON) + 256 }

func (r *ring) at(i int) *messages.LogEntry { return &r.entries[(r.head+i)%len(r.entries)] }

func (r *ring) push(e messages.LogEntry) {
	if r.n == len(r.entries) && r.n < ringEntries {
		r.entries = append(slices.Concat(r.entries[r.head:], r.entries[:r.head]), make([]messages.LogEntry, max(16, r.n))...)
		r.head = 0
	}
	for r.n > 0 && (r.n == len(r.entries) || r.bytes+entryBytes(&e) > ringBytes) {
		r.dropFirst()
	}
	*r.at(r.n) = e
	r.n++
	r.bytes += entryBytes(&e)
}

func (r *ring) dropFirst() {
	first := r.at(0)
	r.bytes -= entryBytes(first)
	*first = messages.LogEntry{}
	r.head = (r.head + 1) % len(r.entries)
	r.n--
}

// from gives the entries with Seq ≥ seq, bounded; false if the ring does not go back that far.
func (r *ring) from(seq uint64, max int) ([]messages.LogEntry, bool) {
	if r.n == 0 || seq < r.at(0).Seq {
		return nil, false
	}
	start := int(seq - r.at(0).Seq)
	out := make([]messages.LogEntry, 0, min(max, r.n-start))
	size := 0
	for i := start; i < r.n && len(out) < max && size < readBytes; i++ {
		e := r.at(i)
		size += len(e.JSON)
		out = append(out, *e)
	}
	return out, true
}

// append makes entries visible that are durable now, and wakes those who watch.
func (a *appLog) publish(m logMeta, entries []messages.LogEntry) (ringGrowth int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	before := a.ring.bytes
	for _, e := range entries {
		a.ring.push(e)
	}
	for a.ring.n > 0 && a.ring.at(0).Seq < m.first {
		a.ring.dropFirst()
	}
	a.meta = m
	for w := range a.watchers {
		select {
		case w <- struct{}{}:
		default:
		}
	}
	return a.ring.bytes - before
}

func (a *appLog) view() logMeta {
	a.mu.RLock()
	defer a.mu.RUnlock()
	return a.meta
}

// appLog gives the log of an application; nil if there is none and it is not to be made.
func (s *Store) appLog(app string, create bool) *appLog {
	s.appsMu.RLock()
	a := s.apps[app]
	s.appsMu.RUnlock()
	if a != nil || !create {
		return a
	}
	s.appsMu.Lock()
	defer s.appsMu.Unlock()
	if a = s.apps[app]; a == nil {
		a = &appLog{meta: logMeta{floor: 1, first: 1, indexed: 1}}
		s.apps[app] = a
	}
	return a
}

func (s *Store) allApps() map[string]*appLog {
	s.appsMu.RLock()
	defer s.appsMu.RUnlock()
	return maps.Clone(s.apps)
}

// boundRings empties the rings of the applications that were quiet for longest, once all rings together hold too much.
func (s *Store) boundRings() {
	if s.ringSize <= ringTotal {
		return
	}
	type quiet struct {
		a    *appLog
		time int64
	}
	var all []quiet
	for _, a := range s.allApps() {
		a.mu.RLock()
		if a.ring.n > 0 {
			all = append(all, quiet{a, a.ring.at(a.ring.n - 1).Time.UnixNano()})
		}
		a.mu.RUnlock()
	}
	slices.SortFunc(all, func(x, y quiet) int { return cmp.Compare(x.time, y.time) })
	for _, q := range all {
		if s.ringSize <= ringTotal*3/4 {
			return
		}
		q.a.mu.Lock()
		s.ringSize -= q.a.ring.bytes
		q.a.ring = ring{}
		q.a.mu.Unlock()
	}
}

// WatchLog gives a channel that holds a signal after entries were appended durably, or the log was trimmed or deleted. Signals that nobody takes
// become one. cancel ends it; the channel is never closed.
func (s *Store) WatchLog(applicationID string) (changed <-chan struct{}, cancel func()) {
	w := make(chan struct{}, 1)
	a := s.appLog(applicationID, true)
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.watchers == nil {
		a.watchers = make(map[chan struct{}]struct{})
	}
	a.watchers[w] = struct{}{}
	return w, func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		delete(a.watchers, w)
	}
}
