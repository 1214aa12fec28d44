package badger

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"strings"

	bdb "github.com/dgraph-io/badger/v4"

	"lorikeet/messages"
	"lorikeet/persistence"
)

// get reads a tracked record; number 0 if there is none.
func (s *Store) get(key []byte) (payload []byte, number uint64, err error) {
	want := s.tracked.number(key)
	if want == 0 {
		return nil, 0, nil
	}
	payload, number, err = s.fetch(key)
	if err != nil || number < want {
		// It may just have been removed or made again by a batch that is being published.
		s.commitMu.Lock()
		defer s.commitMu.Unlock()
		if want = s.tracked.number(key); want == 0 {
			return nil, 0, nil
		}
		payload, number, err = s.fetch(key)
		if err == nil && number != want {
			err = damaged(key, fmt.Sprintf("it is at write %d and not %d", number, want))
		}
	}
	return payload, number, err
}

// fetch reads a record as Badger has it; number 0 if it has none.
func (s *Store) fetch(key []byte) (payload []byte, number uint64, err error) {
	err = s.db.View(func(txn *bdb.Txn) error {
		item, err := txn.Get(key)
		if errors.Is(err, bdb.ErrKeyNotFound) {
			return nil
		}
		if err != nil {
			return damaged(key, err)
		}
		record, err := item.ValueCopy(nil)
		if err == nil {
			number, payload, err = parseRecord(key, record)
		}
		if err != nil {
			return damaged(key, err)
		}
		return nil
	})
	return payload, number, err
}

// open gives what was stored: the payload, unsealed if its family or kind is sealed. The bytes are the caller's.
func (s *Store) open(key, payload []byte, sealed bool) ([]byte, error) {
	if !sealed {
		return bytes.Clone(payload), nil
	}
	plain, err := s.cfg.Sealer.Open(key, payload)
	if err != nil {
		return nil, damaged(key, err)
	}
	return plain, nil
}

// LoadSession gives the session record of a device; without a record nil and 0.
func (s *Store) LoadSession(ctx context.Context, id messages.DeviceID) ([]byte, messages.Revision, error) {
	if err := s.enter(ctx); err != nil {
		return nil, 0, err
	}
	defer s.leave()
	key := sessionKey(id)
	payload, number, err := s.get(key)
	if err != nil || number == 0 {
		return nil, 0, err
	}
	session, err := s.open(key, payload, true)
	if err != nil {
		return nil, 0, err
	}
	return session, messages.Revision(number), nil
}

// GetDocument gives one document, or messages.ErrNotFound.
func (s *Store) GetDocument(ctx context.Context, kind messages.Kind, id string) (messages.Document, error) {
	if err := s.enter(ctx); err != nil {
		return messages.Document{}, err
	}
	defer s.leave()
	key := docKey(kind, id)
	payload, number, err := s.get(key)
	if err != nil {
		return messages.Document{}, err
	}
	if number == 0 {
		return messages.Document{}, messages.ErrNotFound
	}
	value, err := s.open(key, payload, persistence.Secret(kind))
	if err != nil {
		return messages.Document{}, err
	}
	return messages.Document{Kind: kind, ID: id, Revision: messages.Revision(number), Value: value}, nil
}

// errStop ends a walk early without an error.
var errStop = errors.New("stop")

// walk calls do for all records with the prefix, from start on, in key order. key and payload are valid during the call only.
// If nothing stops it, it makes sure that it has seen as many records as there are of this class (nil: that is not checked).
func (s *Store) walk(ctx context.Context, prefix, start, class []byte, do func(key, payload []byte, number uint64) error) error {
	want := -1
	var txn *bdb.Txn
	if class != nil {
		s.commitMu.Lock()
		want = s.tracked.count(class)
		txn = s.db.NewTransaction(false)
		s.commitMu.Unlock()
	} else {
		txn = s.db.NewTransaction(false)
	}
	defer txn.Discard()
	it := txn.NewIterator(bdb.IteratorOptions{Prefix: prefix, PrefetchValues: false})
	defer it.Close()
	n := 0
	for it.Seek(start); it.Valid(); it.Next() {
		if n%256 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		n++
		item := it.Item()
		key := item.Key()
		err := item.Value(func(record []byte) error {
			number, payload, err := parseRecord(key, record)
			if err != nil {
				return damaged(key, err)
			}
			return do(key, payload, number)
		})
		if errors.Is(err, errStop) {
			return nil
		}
		if err != nil {
			return err
		}
	}
	if class != nil && n != want {
		return damaged(prefix, fmt.Sprintf("%d of %d records of this family were found", n, want))
	}
	return nil
}

// ScanSessions calls do for every session record, in the byte order of UIDs, and stops at its first error.
// It shows the store as it was when the scan began; do may call the store.
func (s *Store) ScanSessions(ctx context.Context, do func(messages.DeviceID, []byte, messages.Revision) error) error {
	if err := s.enter(ctx); err != nil {
		return err
	}
	defer s.leave()
	prefix := []byte{familySession}
	return s.walk(ctx, prefix, prefix, prefix, func(key, payload []byte, number uint64) error {
		id, err := messages.ParseUID(string(key[1:]))
		if err != nil {
			return damaged(key, err)
		}
		session, err := s.open(key, payload, true)
		if err != nil {
			return err
		}
		return do(id, session, messages.Revision(number))
	})
}

func (s *Store) walkDocuments(ctx context.Context, kind messages.Kind, prefix, after string, do func(messages.Document) error) error {
	base := docKey(kind, "")
	start := docKey(kind, max(prefix, after))
	var counted []byte
	if prefix == "" && after == "" {
		counted = class(base)
	}
	return s.walk(ctx, docKey(kind, prefix), start, counted, func(key, payload []byte, number uint64) error {
		id := string(key[len(base):])
		if id <= after {
			return nil
		}
		value, err := s.open(key, payload, persistence.Secret(kind))
		if err != nil {
			return err
		}
		return do(messages.Document{Kind: kind, ID: id, Revision: messages.Revision(number), Value: value})
	})
}

// ListDocuments gives the documents whose id has the prefix and is greater than after, in id order, at most limit (0: all).
func (s *Store) ListDocuments(ctx context.Context, kind messages.Kind, prefix, after string, limit int) ([]messages.Document, error) {
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	defer s.leave()
	if after > prefix && !strings.HasPrefix(after, prefix) {
		return nil, nil // all ids with the prefix come before it
	}
	var docs []messages.Document
	err := s.walkDocuments(ctx, kind, prefix, after, func(d messages.Document) error {
		docs = append(docs, d)
		if len(docs) == limit {
			return errStop
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return docs, nil
}

// ScanDocuments calls do for every document of a kind, in id order, and stops at its first error.
// It shows the registry as it was when the scan began; do may call the store.
func (s *Store) ScanDocuments(ctx context.Context, kind messages.Kind, do func(messages.Document) error) error {
	if err := s.enter(ctx); err != nil {
		return err
	}
	defer s.leave()
	return s.walkDocuments(ctx, kind, "", "", do)
}

// LoadCursor gives the place that was saved under the name; false if none was.
func (s *Store) LoadCursor(ctx context.Context, name string) (uint64, bool, error) {
	if err := s.enter(ctx); err != nil {
		return 0, false, err
	}
	defer s.leave()
	s.curMu.RLock()
	defer s.curMu.RUnlock()
	seq, ok := s.cursors[name]
	return seq, ok, nil
}

// LogRange gives the first and the last Seq that are kept; first is last+1 if there are none.
func (s *Store) LogRange(ctx context.Context, applicationID string) (first, last uint64, err error) {
	if err := s.enter(ctx); err != nil {
		return 0, 0, err
	}
	defer s.leave()
	a := s.appLog(applicationID, false)
	if a == nil {
		return 1, 0, nil
	}
	m := a.view()
	return m.first, m.last, nil
}

// CountLog gives the number of entries that are kept with after < Seq ≤ upTo.
func (s *Store) CountLog(ctx context.Context, applicationID string, after, upTo uint64) (uint64, error) {
	first, last, err := s.LogRange(ctx, applicationID)
	if err != nil {
		return 0, err
	}
	after, upTo = max(after, first-1), min(upTo, last)
	if upTo <= after {
		return 0, nil
	}
	return upTo - after, nil
}

// ReadLog gives the entries with Seq > after that are kept, at most max (0: 1000) and about 4 MiB. It gives none only if there are none yet.
// The newest entries come from memory. JSON is shared: it must not be changed.
func (s *Store) ReadLog(ctx context.Context, applicationID string, after uint64, max int) ([]messages.LogEntry, error) {
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	defer s.leave()
	a := s.appLog(applicationID, false)
	if a == nil || after == math.MaxUint64 {
		return nil, nil
	}
	if max <= 0 {
		max = readDefault
	}
	for {
		a.mu.RLock()
		m := a.meta
		from := after + 1
		if from < m.first {
			from = m.first
		}
		if from > m.last {
			a.mu.RUnlock()
			return nil, nil
		}
		entries, ok := a.ring.from(from, max)
		a.mu.RUnlock()
		if ok {
			return entries, nil
		}
		entries, err := s.readEntries(ctx, applicationID, from, m.last, max)
		if err == nil {
			return entries, nil
		}
		if a.view().first <= from {
			return nil, err
		}
		// What was to be read has been trimmed in the meantime: begin again behind it.
	}
}

// readEntries reads from..last from the database, bounded, and insists on every one of them.
func (s *Store) readEntries(ctx context.Context, app string, from, last uint64, max int) ([]messages.LogEntry, error) {
	var entries []messages.LogEntry
	next, size := from, 0
	err := s.walkLog(ctx, app, from, func(item *bdb.Item, seq uint64) error {
		if seq > last {
			return errStop
		}
		if seq != next {
			return damaged(logKey(app, next), "it is missing")
		}
		record, err := item.ValueCopy(nil)
		if err != nil {
			return damaged(item.Key(), err)
		}
		event, err := parseEntry(item.Key(), record, seq)
		if err != nil {
			return damaged(item.Key(), err)
		}
		entries = append(entries, messages.LogEntry{Seq: seq, Event: event})
		next++
		if size += len(event.JSON); len(entries) >= max || size >= readBytes {
			return errStop
		}
		return nil
	})
	if err == nil && len(entries) == 0 {
		err = damaged(logKey(app, next), "it is missing")
	}
	return entries, err
}

func parseEntry(key, record []byte, seq uint64) (messages.Event, error) {
	number, payload, err := parseRecord(key, record)
	if err == nil && number != seq {
		err = errRecord
	}
	if err != nil {
		return messages.Event{}, err
	}
	return persistence.DecodeEvent(payload)
}

// walkLog calls do for the stored log entries of an application from a Seq on. The item is valid during the call only.
func (s *Store) walkLog(ctx context.Context, app string, from uint64, do func(item *bdb.Item, seq uint64) error) error {
	return s.db.View(func(txn *bdb.Txn) error {
		prefix := logKey(app, 0)[:len(app)+2]
		it := txn.NewIterator(bdb.IteratorOptions{Prefix: prefix, PrefetchValues: false})
		defer it.Close()
		for it.Seek(logKey(app, from)); it.Valid(); it.Next() {
			item := it.Item()
			seq, ok := logSeq(app, item.Key())
			if !ok {
				continue
			}
			if seq%256 == 0 && ctx.Err() != nil {
				return ctx.Err()
			}
			err := do(item, seq)
			if errors.Is(err, errStop) {
				return nil
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}
