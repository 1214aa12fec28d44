package jetstream

import (
	"context"
	"errors"
	"slices"
	"time"

	"lorikeet/messages"
	"lorikeet/persistence"
)

// The subjects of the journal are the index by device: its commits, and the one of commits without a session record. JetStream reads forward only, so
// who wants the newest first reads windows of the journal that lie further and further back, each four times as long as the one before: a dense device
// is found in the first, a rare one after a few.

const (
	lookedAt    = 20_000 // entries that are looked at for one page
	firstWindow = 256    // messages
)

// window is a part of a log: the entries with after < Seq < before.
type window struct{ after, before uint64 }

func (w window) empty() bool { return w.before <= w.after+1 }

// ReadHistory gives a page of the entries that a query names, in the order it asks for. What is committed while pages are read is seen by those that
// read forward, and changes nothing for those that read back. JSON is shared: it must not be changed.
func (s *Store) ReadHistory(ctx context.Context, q messages.HistoryQuery) (page messages.HistoryPage, err error) {
	if err := s.enter(ctx); err != nil {
		return page, err
	}
	defer s.leave()
	if !asksForEvents(q) {
		return page, nil
	}
	if q.Max <= 0 {
		q.Max = readDefault
	}
	w, err := s.historyWindow(ctx, q)
	if err != nil || w.empty() {
		return page, err
	}
	if q.NewestFirst {
		return s.readWindows(ctx, q, w)
	}
	return s.readForward(ctx, q, w)
}

// CountHistory gives how many entries a query names, for each device that has any. From, Max and NewestFirst are not looked at. It reads them all.
func (s *Store) CountHistory(ctx context.Context, q messages.HistoryQuery) (map[string]uint64, error) {
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	defer s.leave()
	counts := make(map[string]uint64)
	if !asksForEvents(q) {
		return counts, nil
	}
	q.From, q.NewestFirst = 0, false
	w, err := s.historyWindow(ctx, q)
	if err != nil || w.empty() {
		return counts, err
	}
	err = s.eachIn(ctx, q, w, func(e messages.LogEntry) { counts[e.Device.DeviceID]++ })
	return counts, err
}

// asksForEvents says whether the query has names that something can be stored under.
func asksForEvents(q messages.HistoryQuery) bool {
	if q.DeviceID == "" {
		return persistence.CheckApplication(q.ApplicationID) == nil
	}
	return persistence.CheckDevice(messages.DeviceID{ApplicationID: q.ApplicationID, DeviceID: q.DeviceID}) == nil
}

// historyWindow is the part of the log in which all entries of the query lie.
func (s *Store) historyWindow(ctx context.Context, q messages.HistoryQuery) (w window, err error) {
	stream := s.names.journal(s.names.shard(q.ApplicationID))
	st, err := s.state(ctx, stream)
	if err != nil {
		return w, err
	}
	if w.after, _, err = s.loadCut(ctx, q.ApplicationID); err != nil {
		return w, err
	}
	w.before = lastSeq(st.LastSeq) + 1
	switch {
	case q.From > 0 && q.NewestFirst:
		w.before = min(w.before, q.From)
	case q.From > 0:
		w.after = max(w.after, q.From)
	}
	if st.FirstSeq > 0 {
		w.after = max(w.after, firstSeq(st.FirstSeq)-1)
	}
	low, high := max((w.after+1)>>indexBits, 1), (w.before-1)>>indexBits+1
	if !q.After.IsZero() && !w.empty() {
		first, err := s.firstEventSince(ctx, q.ApplicationID, low, high, q.After.Add(-messages.HistoryDisorder))
		if err != nil {
			return w, err
		}
		w.after = max(w.after, firstSeq(first)-1)
	}
	if !q.Before.IsZero() && !w.empty() {
		first, err := s.firstEventSince(ctx, q.ApplicationID, low, high, q.Before.Add(messages.HistoryDisorder))
		if err != nil {
			return w, err
		}
		w.before = min(w.before, firstSeq(first))
	}
	return w, nil
}

// firstEventSince gives the sequence of the first message in low..high-1 with an event of a time or later; high if there is none. It asks the events
// and not the messages, which are younger in a log that was copied from another store.
func (s *Store) firstEventSince(ctx context.Context, app string, low, high uint64, t time.Time) (uint64, error) {
	for low < high {
		mid := low + (high-low)/2
		seq, at, err := s.nextEvent(ctx, app, mid, high)
		if err != nil {
			return 0, err
		}
		if seq > 0 && at.Before(t) {
			low = seq + 1
		} else {
			high = mid
		}
	}
	return high, nil
}

// nextEvent gives the first message in from..to-1 that has events, and the time of the first of them; 0 if there is none.
func (s *Store) nextEvent(ctx context.Context, app string, from, to uint64) (uint64, time.Time, error) {
	for {
		m, err := s.next(ctx, s.names.journal(s.names.shard(app)), s.names.log(app), from)
		if err != nil || m == nil || m.seq >= to {
			return 0, time.Time{}, err
		}
		entries, err := entriesOf(m, 0)
		if err != nil {
			return 0, time.Time{}, damaged(m, err)
		}
		if len(entries) > 0 {
			return m.seq, entries[0].Time, nil
		}
		from = m.seq + 1
	}
}

// nextOf gives the sequence of the first message from one on that may have events of a device (of any, if it is ""), as the leader has it; 0 if there
// is none.
func (s *Store) nextOf(ctx context.Context, app, device string, from uint64) (first uint64, err error) {
	for _, subject := range s.names.history(app, device) {
		m, err := s.next(ctx, s.names.journal(s.names.shard(app)), subject, from)
		if err != nil {
			return 0, err
		}
		if m != nil && (first == 0 || m.seq < first) {
			first = m.seq
		}
	}
	return first, nil
}

func (s *Store) readForward(ctx context.Context, q messages.HistoryQuery, w window) (page messages.HistoryPage, err error) {
	size, looked := 0, 0
	for after := w.after; ; {
		entries, err := s.readBack(ctx, q.ApplicationID, q.DeviceID, after, w.before-1, min(q.Max, readDefault))
		if err != nil {
			return messages.HistoryPage{}, err
		}
		if len(entries) == 0 {
			return page, nil
		}
		for _, e := range entries {
			if e.Seq >= w.before {
				return page, nil
			}
			if len(page.Entries) >= q.Max || size >= readBytes || looked >= lookedAt {
				page.Next = after
				return page, nil
			}
			after = e.Seq
			looked++
			if q.Matches(e.Device.DeviceID, e.Type, e.Time) {
				page.Entries = append(page.Entries, e)
				size += len(e.JSON)
			}
		}
	}
}

// readWindows goes back until the page is full.
func (s *Store) readWindows(ctx context.Context, q messages.HistoryQuery, all window) (page messages.HistoryPage, err error) {
	size, looked := 0, uint64(0)
	for messages := uint64(firstWindow); !all.empty(); messages *= 4 {
		w := all
		if high := (w.before - 1) >> indexBits; high > messages {
			w.after = max(w.after, firstSeq(high-messages)-1)
		}
		tail := newest{most: q.Max - len(page.Entries), bytes: readBytes - size}
		if err := s.eachIn(ctx, q, w, tail.add); err != nil {
			return page, err
		}
		slices.Reverse(tail.entries)
		page.Entries = append(page.Entries, tail.entries...)
		size += tail.size
		if tail.dropped {
			page.Next = tail.entries[len(tail.entries)-1].Seq
			return page, nil
		}
		all.before = w.after + 1
		looked += messages
		if !all.empty() && (len(page.Entries) >= q.Max || size >= readBytes || looked >= lookedAt && len(page.Entries) > 0) {
			page.Next = all.before
			return page, nil
		}
	}
	return page, nil
}

// newest keeps the last entries that are added, bounded, but at least one.
type newest struct {
	most, bytes int
	entries     []messages.LogEntry
	size        int
	dropped     bool
}

func (n *newest) add(e messages.LogEntry) {
	n.entries = append(n.entries, e)
	n.size += len(e.JSON)
	drop := 0
	for drop < len(n.entries)-1 && (len(n.entries)-drop > n.most || n.size > n.bytes) {
		n.size -= len(n.entries[drop].JSON)
		n.entries[drop] = messages.LogEntry{}
		drop++
	}
	if drop > 0 {
		n.entries, n.dropped = n.entries[drop:], true
	}
}

// eachIn calls do for the entries of a query in a window, in the order of the log. It begins again where it was after the loss of a server.
func (s *Store) eachIn(ctx context.Context, q messages.HistoryQuery, w window, do func(messages.LogEntry)) error {
	at := w.after
	for try := 0; ; try++ {
		r := &backReader{app: q.ApplicationID, device: q.DeviceID, at: at, next: max((at+1)>>indexBits, 1)}
		err := s.readAll(ctx, r, w, func(e messages.LogEntry) {
			if q.Matches(e.Device.DeviceID, e.Type, e.Time) {
				do(e)
			}
		})
		if r.consumer != "" {
			s.forget(s.names.journal(s.names.shard(q.ApplicationID)), r.consumer)
		}
		var final *messages.Error
		if err == nil || errors.As(err, &final) {
			return err
		}
		if r.at > at {
			at, try = r.at, 0
		}
		s.metrics.retries.Inc()
		if wait(ctx, try) != nil {
			return unavailable("read the log of "+q.ApplicationID, err, ctx)
		}
	}
}

func (s *Store) readAll(ctx context.Context, r *backReader, w window, do func(messages.LogEntry)) error {
	for {
		entries, err := s.readOn(ctx, r, w.before-1, readDefault)
		if err != nil || len(entries) == 0 {
			return err
		}
		for _, e := range entries {
			if e.Seq >= w.before {
				return nil
			}
			do(e)
		}
	}
}
