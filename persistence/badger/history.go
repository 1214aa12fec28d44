package badger

import (
	"context"
	"errors"
	"fmt"
	"sort"
	"time"

	bdb "github.com/dgraph-io/badger/v4"

	"lorikeet/messages"
)

// lookedAt bounds how many entries or index keys one page of a history looks at.
const lookedAt = 20_000

// span is a part of a log, both ends included; it is empty if from is above to.
type span struct{ from, to uint64 }

func (p span) empty() bool { return p.from > p.to }

// ReadHistory gives a page of the entries that a query names, in the order it asks for. What is committed while pages are read is seen by those that
// read forward, and changes nothing for those that read back. JSON is shared: it must not be changed.
func (s *Store) ReadHistory(ctx context.Context, q messages.HistoryQuery) (messages.HistoryPage, error) {
	if err := s.enter(ctx); err != nil {
		return messages.HistoryPage{}, err
	}
	defer s.leave()
	a := s.appLog(q.ApplicationID, false)
	if a == nil {
		return messages.HistoryPage{}, nil
	}
	if q.Max <= 0 {
		q.Max = readDefault
	}
	w := &historyWalk{s: s, ctx: ctx, q: q, a: a}
	m := a.view()
	err := s.db.View(func(txn *bdb.Txn) (err error) {
		w.txn = txn
		all, err := w.span(m)
		if err != nil || all.empty() {
			return err
		}
		parts := []func() error{
			func() error { return w.log(span{all.from, min(all.to, m.indexed-1)}) },
			func() error { return w.index(span{max(all.from, m.indexed), all.to}) },
		}
		if q.DeviceID == "" {
			parts = []func() error{func() error { return w.log(all) }}
		}
		if q.NewestFirst && len(parts) == 2 {
			parts[0], parts[1] = parts[1], parts[0]
		}
		for _, part := range parts {
			if err := part(); err != nil {
				return err
			}
		}
		return nil
	})
	if errors.Is(err, errStop) {
		w.page.Next, err = w.last, nil
	}
	if err != nil {
		return messages.HistoryPage{}, err
	}
	return w.page, nil
}

// CountHistory gives how many entries a query names, for each device that has any. From, Max and NewestFirst are not looked at.
func (s *Store) CountHistory(ctx context.Context, q messages.HistoryQuery) (map[string]uint64, error) {
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	defer s.leave()
	counts := make(map[string]uint64)
	a := s.appLog(q.ApplicationID, false)
	if a == nil {
		return counts, nil
	}
	q.From, q.NewestFirst = 0, false
	w := &historyWalk{s: s, ctx: ctx, q: q, a: a}
	m := a.view()
	err := s.db.View(func(txn *bdb.Txn) error {
		w.txn = txn
		all, err := w.span(m)
		if err != nil || all.empty() {
			return err
		}
		err = w.eachLog(span{all.from, min(all.to, m.indexed-1)}, func(e messages.LogEntry) error {
			if q.Matches(e.Device.DeviceID, e.Type, e.Time) {
				counts[e.Device.DeviceID]++
			}
			return nil
		})
		if err != nil {
			return err
		}
		indexed := span{max(all.from, m.indexed), all.to}
		return w.eachKey(indexPrefix(q.ApplicationID, q.DeviceID), indexed, func(e indexEntry) error {
			if e.seq < indexed.from || e.seq > indexed.to {
				return nil
			}
			if q.Matches(e.device, e.typ, e.time) {
				counts[e.device]++
			}
			return nil
		})
	})
	return counts, err
}

// historyWalk collects one page.
type historyWalk struct {
	s    *Store
	ctx  context.Context
	q    messages.HistoryQuery
	a    *appLog
	txn  *bdb.Txn
	page messages.HistoryPage
	last uint64 // Seq that was looked at last
	n    int    // how many were
	size int
}

// span is the part of the log in which all entries of the query lie.
func (w *historyWalk) span(m logMeta) (span, error) {
	p := span{m.first, m.last}
	if w.q.From > 0 && w.q.NewestFirst {
		p.to = min(p.to, w.q.From-1)
	} else if w.q.From > 0 {
		p.from = max(p.from, w.q.From+1)
	}
	if p.empty() {
		return p, nil
	}
	var err error
	find := func(t time.Time) uint64 {
		return p.from + uint64(sort.Search(int(p.to-p.from+1), func(i int) bool {
			at, e := w.timeOf(p.from + uint64(i))
			err = errors.Join(err, e)
			return !at.Before(t)
		}))
	}
	from, to := p.from, p.to
	if !w.q.After.IsZero() {
		from = find(w.q.After.Add(-messages.HistoryDisorder))
	}
	if !w.q.Before.IsZero() {
		to = min(to, find(w.q.Before.Add(messages.HistoryDisorder)))
	}
	return span{from, to}, err
}

// timeOf gives the time of an entry; zero if it was trimmed meanwhile.
func (w *historyWalk) timeOf(seq uint64) (at time.Time, err error) {
	key := logKey(w.q.ApplicationID, seq)
	item, err := w.txn.Get(key)
	if errors.Is(err, bdb.ErrKeyNotFound) && seq < w.a.view().first {
		return at, nil
	}
	if err != nil {
		return at, damaged(key, err)
	}
	err = item.Value(func(record []byte) error {
		_, payload, err := parseRecord(key, record)
		at = eventTime(payload)
		return err
	})
	if err != nil {
		return at, damaged(key, err)
	}
	return at, nil
}

// look counts what is looked at, and ends a page that is full: errStop.
func (w *historyWalk) look(seq uint64) error {
	if len(w.page.Entries) >= w.q.Max || w.size >= readBytes || w.n >= lookedAt {
		return errStop
	}
	w.n++
	w.last = seq
	return nil
}

func (w *historyWalk) take(e messages.LogEntry) {
	w.page.Entries = append(w.page.Entries, e)
	w.size += len(e.JSON)
}

// log reads a part of the log itself.
func (w *historyWalk) log(p span) error {
	return w.eachLog(p, func(e messages.LogEntry) error {
		if err := w.look(e.Seq); err != nil {
			return err
		}
		if w.q.Matches(e.Device.DeviceID, e.Type, e.Time) {
			e.JSON = append([]byte{}, e.JSON...)
			w.take(e)
		}
		return nil
	})
}

// eachLog calls do for the entries of a part of the log, whose JSON is valid during the call only.
func (w *historyWalk) eachLog(p span, do func(messages.LogEntry) error) error {
	if p.empty() {
		return nil
	}
	app := w.q.ApplicationID
	it := w.txn.NewIterator(bdb.IteratorOptions{Prefix: logKey(app, 0)[:len(app)+2], Reverse: w.q.NewestFirst, PrefetchValues: false})
	defer it.Close()
	want, step := p.from, uint64(1)
	if w.q.NewestFirst {
		want, step = p.to, ^uint64(0)
	}
	for it.Seek(logKey(app, want)); it.Valid(); it.Next() {
		item := it.Item()
		seq, ok := logSeq(app, item.Key())
		if !ok || seq < p.from || seq > p.to {
			break
		}
		if seq != want {
			if err := w.missing(want); err != nil {
				return err
			}
			want = seq
		}
		want += step
		if w.ctx.Err() != nil {
			return w.ctx.Err()
		}
		err := item.Value(func(record []byte) error {
			e, err := parseEntry(item.Key(), record, seq)
			if err != nil {
				return damaged(item.Key(), err)
			}
			return do(messages.LogEntry{Seq: seq, Event: e})
		})
		if err != nil {
			return err
		}
	}
	if want >= p.from && want <= p.to {
		return w.missing(want)
	}
	return nil
}

// missing is no error for an entry that was trimmed since the page was begun.
func (w *historyWalk) missing(seq uint64) error {
	if seq < w.a.view().first {
		return nil
	}
	return damaged(logKey(w.q.ApplicationID, seq), "it is missing")
}

// index reads a part of the log by the index of the device.
func (w *historyWalk) index(p span) error {
	return w.eachKey(indexPrefix(w.q.ApplicationID, w.q.DeviceID), p, func(k indexEntry) error {
		if err := w.look(k.seq); err != nil {
			return err
		}
		if k.typ != "" && !w.q.Matches(k.device, k.typ, k.time) {
			return nil
		}
		e, found, err := w.entry(k.seq)
		if err != nil || !found {
			return err
		}
		if e.Device.DeviceID != k.device {
			return damaged(logKey(w.q.ApplicationID, k.seq), fmt.Sprintf("the index has it under %q", k.device))
		}
		if w.q.Matches(k.device, e.Type, e.Time) {
			w.take(e)
		}
		return nil
	})
}

// entry reads one entry of the log; false if it was trimmed meanwhile.
func (w *historyWalk) entry(seq uint64) (e messages.LogEntry, found bool, err error) {
	key := logKey(w.q.ApplicationID, seq)
	item, err := w.txn.Get(key)
	if errors.Is(err, bdb.ErrKeyNotFound) {
		return e, false, w.missing(seq)
	}
	if err != nil {
		return e, false, damaged(key, err)
	}
	record, err := item.ValueCopy(nil)
	if err == nil {
		e.Seq = seq
		e.Event, err = parseEntry(key, record, seq)
	}
	if err != nil {
		return e, false, damaged(key, err)
	}
	return e, true, nil
}

// eachKey calls do for keys of the index with the prefix: of one device in order within the span; of an application all, device by device.
// A type that has no code is looked up.
func (w *historyWalk) eachKey(prefix []byte, p span, do func(indexEntry) error) error {
	if p.empty() {
		return nil
	}
	it := w.txn.NewIterator(bdb.IteratorOptions{Prefix: prefix, Reverse: w.q.NewestFirst, PrefetchValues: false})
	defer it.Close()
	start := prefix
	if w.q.DeviceID != "" {
		start = indexKey(w.q.ApplicationID, w.q.DeviceID, p.from)
		if w.q.NewestFirst {
			start = indexKey(w.q.ApplicationID, w.q.DeviceID, p.to)
		}
	}
	n := 0
	for it.Seek(start); it.Valid(); it.Next() {
		if n++; n%256 == 0 && w.ctx.Err() != nil {
			return w.ctx.Err()
		}
		k, err := parseIndex(w.q.ApplicationID, it.Item())
		if err != nil {
			return err
		}
		if w.q.DeviceID != "" && (k.seq < p.from || k.seq > p.to) {
			return nil
		}
		if k.typ == "" && k.seq >= p.from && k.seq <= p.to {
			e, found, err := w.entry(k.seq)
			if err != nil {
				return err
			}
			if !found {
				continue
			}
			k.typ = e.Type
		}
		if err := do(k); err != nil {
			return err
		}
	}
	return nil
}
