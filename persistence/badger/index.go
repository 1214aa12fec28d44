package badger

import (
	"context"
	"encoding/binary"
	"fmt"
	"time"

	bdb "github.com/dgraph-io/badger/v4"

	"lorikeet/messages"
)

// The index finds the entries of one device in the log of its application. Each entry has a key beside it, written in the same transaction:
//
//	familyIndex, application, 0, device, 0, Seq in 8 bytes -> 1 byte for the type | 8 bytes Unix ns of the event
//
// It holds nothing that the log does not: entries that were written before there was an index get their keys in the background (fillIndex), and until
// then the log itself is read there (logMeta.indexed).
const indexValue = 1 + 8

// typeCodes are stored: they must not change. 0 is any other type; then the entry itself is asked.
var typeCodes = map[messages.EventType]byte{
	messages.EventUplink: 1, messages.EventUplinkNormalized: 2, messages.EventJoin: 3, messages.EventDownQueued: 4, messages.EventDownSent: 5,
	messages.EventDownAck: 6, messages.EventDownNack: 7, messages.EventDownFailed: 8, messages.EventDownInvalidated: 9,
	messages.EventLocationSolved: 10, messages.EventServiceData: 11,
}

var typeNames = func() (names [256]messages.EventType) {
	for t, code := range typeCodes {
		names[code] = t
	}
	return names
}()

// indexPrefix is that of all keys of an application, or of one device.
func indexPrefix(app, device string) []byte {
	k := make([]byte, 0, 11+len(app)+len(device))
	k = append(k, familyIndex)
	k = append(k, app...)
	k = append(k, 0)
	if device == "" {
		return k
	}
	k = append(k, device...)
	return append(k, 0)
}

func indexKey(app, device string, seq uint64) []byte {
	return binary.BigEndian.AppendUint64(indexPrefix(app, device), seq)
}

// indexEntry is a key of the index with its value.
type indexEntry struct {
	device string
	seq    uint64
	typ    messages.EventType // "": the entry itself is to be asked
	time   time.Time
}

func parseIndex(app string, item *bdb.Item) (e indexEntry, err error) {
	key := item.Key()
	head, tail := len(app)+2, len(key)-8
	if tail-1 <= head || key[tail-1] != 0 {
		return e, damaged(key, "its key is malformed")
	}
	e.device, e.seq = string(key[head:tail-1]), binary.BigEndian.Uint64(key[tail:])
	err = item.Value(func(v []byte) error {
		if len(v) != indexValue {
			return damaged(key, "its value is malformed")
		}
		e.typ, e.time = typeNames[v[0]], time.Unix(0, int64(binary.BigEndian.Uint64(v[1:]))).UTC()
		return nil
	})
	return e, err
}

func encodeIndex(e *messages.Event) []byte {
	return binary.BigEndian.AppendUint64(append(make([]byte, 0, indexValue), typeCodes[e.Type]), uint64(e.Time.UnixNano()))
}

// setIndex writes the key of an entry.
func (b *batch) setIndex(app string, seq uint64, e *messages.Event) {
	key, value := indexKey(app, e.Device.DeviceID, seq), encodeIndex(e)
	b.written += len(key) + len(value)
	if err := b.txn.Set(key, value); err != nil && b.err == nil {
		b.err = err
	}
}

func indexBytes(app string, e *messages.Event) int {
	return 11 + len(app) + len(e.Device.DeviceID) + indexValue + entryOverhead
}

// fillIndex writes the keys of all entries that have none yet, the newest first.
func (s *Store) fillIndex(ctx context.Context) error {
	for app, a := range s.allApps() {
		filled := uint64(0)
		for m := a.view(); m.indexed > m.first; m = a.view() {
			from := max(m.first, m.indexed-min(m.indexed, trimChunk))
			op := &fillOp{app: app, from: from, to: m.indexed}
			if err := s.readForIndex(ctx, app, op); err != nil {
				return fmt.Errorf("index the log of application %q: %w", app, err)
			}
			if err := s.submit(ctx, op); err != nil {
				return err
			}
			filled += op.to - op.from
		}
		if filled > 0 {
			s.log.Info("the log of an application has an index by device now", "application_id", app, "events", filled)
		}
	}
	return nil
}

func (s *Store) readForIndex(ctx context.Context, app string, op *fillOp) error {
	if err := s.enter(ctx); err != nil {
		return err
	}
	defer s.leave()
	return s.walkLog(ctx, app, op.from, func(item *bdb.Item, seq uint64) error {
		if seq >= op.to {
			return errStop
		}
		return item.Value(func(record []byte) error {
			e, err := parseEntry(item.Key(), record, seq)
			if err != nil {
				return damaged(item.Key(), err)
			}
			e.JSON = nil // part of record, and not needed
			op.entries = append(op.entries, messages.LogEntry{Seq: seq, Event: e})
			return nil
		})
	})
}

// fillOp writes the keys of the entries from..to-1, if nobody did so meanwhile.
type fillOp struct {
	app      string
	from, to uint64
	entries  []messages.LogEntry
}

func (*fillOp) frees() bool { return false }

func (o *fillOp) size() (entries, bytes int) {
	for i := range o.entries {
		bytes += indexBytes(o.app, &o.entries[i].Event)
	}
	return len(o.entries) + 2, bytes + 1000
}

func (o *fillOp) apply(b *batch) error {
	l := b.log(o.app)
	if l.meta.indexed != o.to {
		return nil
	}
	b.next()
	for i := range o.entries {
		if e := &o.entries[i]; e.Seq >= l.meta.first { // the others were trimmed meanwhile, and nobody would remove their keys
			b.setIndex(o.app, e.Seq, &e.Event)
		}
	}
	l.meta.indexed, l.dirty = o.from, true
	return nil
}

// indexKeys gives the keys of the entries from..to-1, as far as they can be read.
func (s *Store) indexKeys(ctx context.Context, app string, from, to uint64) (keys [][]byte, err error) {
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	defer s.leave()
	err = s.walkLog(ctx, app, from, func(item *bdb.Item, seq uint64) error {
		if seq >= to {
			return errStop
		}
		return item.Value(func(record []byte) error {
			// A damaged entry leaves its key behind, which finds nothing any more.
			if e, err := parseEntry(item.Key(), record, seq); err == nil {
				keys = append(keys, indexKey(app, e.Device.DeviceID, seq))
			}
			return nil
		})
	})
	return keys, err
}
