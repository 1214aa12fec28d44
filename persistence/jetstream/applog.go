package jetstream

import (
	"context"
	"errors"
	"math"
	"sync"
	"time"

	"lorikeet/messages"
	"lorikeet/persistence"
)

const (
	readBytes   = 4 << 20 // about what one ReadLog gives at most
	readDefault = 1000
	idleAfter   = time.Minute      // without readers and watchers a follower ends
	countKept   = 3 * time.Second  // how long a count of entries far back is used again
	keepEvery   = 10 * time.Second // between looks at idle followers
)

func firstSeq(seq uint64) uint64 { return seq << indexBits }
func lastSeq(seq uint64) uint64 { // also of nothing
	if seq == 0 {
		return 0
	}
	return seq<<indexBits | indexMask
}

// appLog follows the log of one application while somebody reads or watches it, and keeps its newest entries.
type appLog struct {
	app string

	mu       sync.Mutex
	running  bool          // there is a follower
	ready    bool          // and it knows where it began
	changed  chan struct{} // closed and made anew when anything below changes
	seen     uint64        // every message up to this sequence is in the ring, or below its floor
	local    uint64        // the newest commit of this node
	cut      uint64        // entries up to this Seq are gone
	ring     ring
	err      error // why the follower ended
	used     time.Time
	watchers map[chan struct{}]struct{}
	stop     context.CancelFunc
	count    struct {
		after, upTo, n uint64
		at             time.Time
	}
}

// appLog gives the log of an application; nil if there is none and it is not to be made.
func (s *Store) appLog(app string, create bool) *appLog {
	s.appsMu.Lock()
	defer s.appsMu.Unlock()
	a := s.apps[app]
	if a == nil && create {
		a = &appLog{app: app, changed: make(chan struct{}), watchers: make(map[chan struct{}]struct{}), used: time.Now()}
		s.apps[app] = a
	}
	return a
}

// notify wakes those who wait for the follower. The caller holds mu.
func (a *appLog) notify() {
	close(a.changed)
	a.changed = make(chan struct{})
}

// signal wakes those who watch. The caller holds mu.
func (a *appLog) signal() {
	for w := range a.watchers {
		select {
		case w <- struct{}{}:
		default:
		}
	}
}

// committed says that this node has committed events.
func (s *Store) committed(app string, seq uint64) {
	if a := s.appLog(app, false); a != nil {
		a.mu.Lock()
		a.local = max(a.local, seq)
		a.mu.Unlock()
	}
}

// touch makes sure that the follower runs. The caller holds mu.
func (s *Store) touch(a *appLog) {
	a.used = time.Now()
	if a.running {
		return
	}
	ctx, stop := context.WithCancel(s.ctx)
	a.running, a.ready, a.stop, a.err = true, false, stop, nil
	s.work(func(context.Context) { s.followLog(ctx, a) })
}

// followLog carries the follower of an application.
func (s *Store) followLog(ctx context.Context, a *appLog) {
	err := s.beginLog(ctx, a)
	if err == nil {
		stream := s.names.journal(s.names.shard(a.app))
		f := feed{stream: stream, filters: []string{s.names.log(a.app), s.names.cut(a.app)}, from: a.seen + 1}
		err = s.follow(ctx, f, func(m *stored) error { return s.take(a, m) }, nil)
	}
	if ctx.Err() == nil {
		s.log.Error("the log of an application can't be followed", "application_id", a.app, "err", err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	s.rings.Add(-int64(a.ring.bytes))
	a.ring, a.running, a.ready, a.err = ring{}, false, false, nil
	if ctx.Err() == nil {
		a.err = err
	}
	a.signal() // so that watchers read, and start it again
	a.notify()
}

// beginLog finds the present end of the log.
func (s *Store) beginLog(ctx context.Context, a *appLog) error {
	stream := s.names.journal(s.names.shard(a.app))
	st, err := s.state(ctx, stream)
	if err != nil {
		return err
	}
	cut, _, err := s.loadCut(ctx, a.app)
	if err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.seen, a.cut = st.LastSeq, max(a.cut, cut)
	a.ring.floor = lastSeq(st.LastSeq)
	a.ready = true
	a.signal() // what came before this moment is not signalled
	a.notify()
	return nil
}

// take puts a message of the follower into the ring.
func (s *Store) take(a *appLog, m *stored) error {
	id, isCut, ok := s.names.parseJournal(m.subject)
	if !ok || id.ApplicationID != a.app {
		return damaged(m, errors.New("its subject is not of this application"))
	}
	var entries []messages.LogEntry
	var cut uint64
	var err error
	if isCut {
		cut, err = decodeNumber(m.data)
	} else {
		entries, err = entriesOf(m, 0)
	}
	if err != nil {
		return damaged(m, err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	before := a.ring.bytes
	for _, e := range entries {
		a.ring.push(e, s.rings.Load() > ringTotal)
	}
	if cut > a.cut {
		a.cut = cut
		a.ring.cut(cut)
	}
	s.rings.Add(int64(a.ring.bytes - before))
	a.seen = m.seq
	if len(entries) > 0 || isCut {
		a.signal()
	}
	a.notify()
	return nil
}

// entriesOf gives the log entries in a message with a Seq above after.
func entriesOf(m *stored, after uint64) ([]messages.LogEntry, error) {
	if m.header.Get(headerEvents) == "" {
		return nil, nil
	}
	b, err := decodeBody(m.data)
	if err != nil {
		return nil, err
	}
	entries := make([]messages.LogEntry, 0, len(b.events))
	for i, e := range b.events {
		if seq := firstSeq(m.seq) + uint64(i); seq > after {
			entries = append(entries, messages.LogEntry{Seq: seq, Event: e})
		}
	}
	return entries, nil
}

// awaitLog waits until the follower has seen what this node committed, and returns with mu held.
func (s *Store) awaitLog(ctx context.Context, a *appLog) error {
	a.mu.Lock()
	for {
		s.touch(a)
		if a.ready && a.seen >= a.local {
			return nil
		}
		changed := a.changed
		a.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return unavailable("follow the log of "+a.app, nil, ctx)
		case <-s.ctx.Done():
			return errClosed
		}
		a.mu.Lock()
		if err := a.err; err != nil {
			a.err = nil // the next reader tries again
			a.mu.Unlock()
			return err
		}
	}
}

// ReadLog gives the entries with Seq > after that are kept, at most max (0: 1000) and about 4 MiB. It gives none only if there are none yet: what
// was committed on this node is there, what was committed on another follows in a moment; none is ever passed over. JSON is shared: it must not be
// changed.
func (s *Store) ReadLog(ctx context.Context, applicationID string, after uint64, max int) ([]messages.LogEntry, error) {
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	defer s.leave()
	if persistence.CheckApplication(applicationID) != nil || after == math.MaxUint64 {
		return nil, nil
	}
	if max <= 0 {
		max = readDefault
	}
	a := s.appLog(applicationID, true)
	for {
		if err := s.awaitLog(ctx, a); err != nil {
			return nil, err
		}
		if a.cut > after {
			after = a.cut
		}
		floor := a.ring.floor
		if after >= floor {
			entries := a.ring.after(after, max)
			a.mu.Unlock()
			return entries, nil
		}
		a.mu.Unlock()
		entries, err := s.readBack(ctx, applicationID, "", after, floor, max)
		if err != nil || len(entries) > 0 {
			return entries, err
		}
		after = floor // nothing is in between: go on in the ring
	}
}

// LogRange gives bounds: all entries that are kept have first ≤ Seq ≤ last, all that follow have more than last, and all that were below first
// are gone. If no message of the application is kept, first is last+1.
func (s *Store) LogRange(ctx context.Context, applicationID string) (first, last uint64, err error) {
	if err := s.enter(ctx); err != nil {
		return 0, 0, err
	}
	defer s.leave()
	if persistence.CheckApplication(applicationID) != nil {
		return 1, 0, nil
	}
	stream := s.names.journal(s.names.shard(applicationID))
	cut, _, err := s.loadCut(ctx, applicationID)
	if err != nil {
		return 0, 0, err
	}
	st, err := s.state(ctx, stream)
	if err != nil {
		return 0, 0, err
	}
	last = lastSeq(st.LastSeq)
	m, err := s.next(ctx, stream, s.names.log(applicationID), cut>>indexBits+1)
	if err != nil {
		return 0, 0, err
	}
	if m == nil || m.seq > st.LastSeq {
		return last + 1, last, nil
	}
	return cut + 1, last, nil
}

// CountLog gives the number of entries that are kept with after < Seq ≤ upTo. Near the end of the log it is exact. Further back it is the number of
// messages, which is more if there were commits without events and less if there were some with several, and up to a few seconds old.
func (s *Store) CountLog(ctx context.Context, applicationID string, after, upTo uint64) (uint64, error) {
	if err := s.enter(ctx); err != nil {
		return 0, err
	}
	defer s.leave()
	if persistence.CheckApplication(applicationID) != nil || after >= upTo {
		return 0, nil
	}
	a := s.appLog(applicationID, true)
	if err := s.awaitLog(ctx, a); err != nil {
		return 0, err
	}
	after = max(after, a.cut)
	floor := a.ring.floor
	n := uint64(0)
	if upTo > floor {
		n = uint64(max(a.ring.search(upTo)-a.ring.search(max(after, floor)), 0))
	}
	count := a.count
	a.mu.Unlock()
	if after >= floor || after >= upTo {
		return n, nil
	}
	to := min(upTo, floor)
	if count.after == after && count.upTo == to && time.Since(count.at) < countKept {
		return n + count.n, nil
	}
	back, err := s.countBack(ctx, applicationID, after, to)
	if err != nil {
		return 0, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.count.after, a.count.upTo, a.count.n, a.count.at = after, to, back, time.Now()
	return n + back, nil
}

// countExact is how many messages are looked at one by one to count.
const countExact = 1000

// countBack counts entries that are not in the ring: exactly if they are few, else by messages.
func (s *Store) countBack(ctx context.Context, app string, after, upTo uint64) (uint64, error) {
	stream, filter := s.names.journal(s.names.shard(app)), s.names.log(app)
	pending, err := s.pendingFrom(ctx, stream, filter, firstMessageAfter(after))
	if err != nil {
		return 0, err
	}
	if pending > countExact {
		rest, err := s.pendingFrom(ctx, stream, filter, firstMessageAfter(upTo))
		return pending - min(rest, pending), err
	}
	n := uint64(0)
	for after < upTo {
		entries, err := s.readBack(ctx, app, "", after, upTo, readDefault)
		if err != nil || len(entries) == 0 {
			return n, err
		}
		for _, e := range entries {
			if e.Seq <= upTo {
				n++
			}
		}
		after = entries[len(entries)-1].Seq
	}
	return n, nil
}

// firstMessageAfter is the first message that may have an entry behind a Seq, if messages have one entry each.
func firstMessageAfter(seq uint64) uint64 {
	if seq == 0 {
		return 1
	}
	return seq>>indexBits + 1
}

// pendingFrom gives how many messages match a filter from a sequence on.
func (s *Store) pendingFrom(ctx context.Context, stream, filter string, seq uint64) (uint64, error) {
	batch, pending, _, err := s.direct(ctx, stream, getRequest{Seq: seq, NextFor: filter, Batch: 1, MaxBytes: 1})
	return pending + uint64(len(batch)), err
}

// WatchLog gives a channel that holds a signal soon after entries were appended by any node, or the log was trimmed or deleted. There may be a signal
// without a reason. Signals that nobody takes become one. cancel ends it; the channel is never closed.
func (s *Store) WatchLog(applicationID string) (changed <-chan struct{}, cancel func()) {
	w := make(chan struct{}, 1)
	a := s.appLog(applicationID, true)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.watchers[w] = struct{}{}
	if persistence.CheckApplication(applicationID) == nil {
		s.touch(a)
	}
	return w, func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		delete(a.watchers, w)
		a.used = time.Now()
		select {
		case <-w:
		default:
		}
	}
}

// keepApps ends followers that nobody needs, and starts those again that failed.
func (s *Store) keepApps(ctx context.Context) {
	t := time.NewTicker(keepEvery)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			s.stopIdle(idleAfter)
		case <-ctx.Done():
			return
		}
	}
}

func (s *Store) stopIdle(after time.Duration) {
	s.appsMu.Lock()
	defer s.appsMu.Unlock()
	for _, a := range s.apps {
		a.mu.Lock()
		if len(a.watchers) > 0 {
			s.touch(a)
		} else if a.running && time.Since(a.used) >= after {
			a.stop()
		}
		a.mu.Unlock()
	}
}
