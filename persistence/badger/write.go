package badger

import (
	"context"
	"encoding/binary"
	"errors"
	"strings"

	"lorikeet/messages"
	"lorikeet/persistence"
)

const entryOverhead = 64 // what Badger adds to an entry, generously

// commitOp holds records that were encoded and sealed by the caller's goroutine, so that the committer has little to do.
type commitOp struct {
	commit  messages.Commit
	key     []byte
	session []byte   // record; nil: none
	events  [][]byte // records
	bytes   int
	result  messages.Revision
}

func (*commitOp) frees() bool { return false }

func (o *commitOp) size() (entries, bytes int) { return 2*len(o.events) + 3, o.bytes }

func (o *commitOp) apply(b *batch) error {
	c := &o.commit
	if o.session != nil && b.number(o.key) != uint64(c.Expected) {
		return messages.ErrConflict
	}
	o.result = c.Expected
	n := b.next()
	if o.session != nil {
		b.setTracked(o.key, o.session, n)
		o.result = messages.Revision(n)
	}
	if len(o.events) == 0 {
		return nil
	}
	app := c.Device.ApplicationID
	l := b.log(app)
	l.dirty = true
	for i, record := range o.events {
		l.meta.last++
		key := logKey(app, l.meta.last)
		b.set(key, record, l.meta.last)
		b.setIndex(app, l.meta.last, &c.Events[i])
		l.meta.bytes += uint64(len(key) + len(record))
		e := messages.LogEntry{Seq: l.meta.last, Event: c.Events[i]}
		e.Time = e.Time.Round(0).UTC()
		l.entries = append(l.entries, e)
	}
	b.appended += len(o.events)
	return nil
}

// Commit writes a session record and appends events to the log, all or nothing, and returns once that is durable. It gives the new revision, or
// Expected if there was no Session. messages.ErrConflict: the record is not at Expected, nothing was written.
// If ctx ends while Commit waits it is not known whether the commit was written: load the session again before deciding anything.
// The Session and the Events must not be changed afterwards.
func (s *Store) Commit(ctx context.Context, c messages.Commit) (messages.Revision, error) {
	if err := persistence.CheckCommit(c); err != nil {
		return 0, err
	}
	if c.Session == nil && len(c.Events) == 0 {
		return c.Expected, ctx.Err()
	}
	o := &commitOp{commit: c, key: sessionKey(c.Device), bytes: 3*entryOverhead + 300}
	if c.Session != nil {
		record, err := s.cfg.Sealer.Seal(newRecord(len(c.Session)+persistence.SealOverhead), o.key, c.Session)
		if err != nil {
			return 0, err
		}
		o.session = record
		o.bytes += len(o.key) + len(record)
	}
	if len(c.Events) > 0 {
		o.events = make([][]byte, len(c.Events))
		for i := range c.Events {
			o.events[i] = encodeEvent(&c.Events[i])
			o.bytes += len(o.events[i]) + len(c.Device.ApplicationID) + entryOverhead + indexBytes(c.Device.ApplicationID, &c.Events[i])
		}
	}
	if err := s.submit(ctx, o); err != nil {
		return 0, err
	}
	return o.result, nil
}

type deleteSessionOp struct{ key []byte }

func (*deleteSessionOp) frees() bool      { return true }
func (*deleteSessionOp) size() (int, int) { return 2, 1000 }

func (o *deleteSessionOp) apply(b *batch) error {
	if b.number(o.key) != 0 {
		b.next()
		b.setTracked(o.key, nil, 0)
	}
	return nil
}

// DeleteSession removes a session record, if there is one. An activation that still holds it gets messages.ErrConflict on its next commit,
// also if there is a new record by then.
func (s *Store) DeleteSession(ctx context.Context, id messages.DeviceID) error {
	if err := persistence.CheckDevice(id); err != nil {
		return err
	}
	return s.submit(ctx, &deleteSessionOp{sessionKey(id)})
}

type documentsOp struct {
	writes  []messages.Write
	keys    [][]byte
	records [][]byte
	bytes   int
}

func (*documentsOp) frees() bool        { return false }
func (o *documentsOp) size() (int, int) { return len(o.writes) + 1, o.bytes }

func (o *documentsOp) apply(b *batch) error {
	for i, w := range o.writes {
		if w.Expect && b.number(o.keys[i]) != uint64(w.Revision) {
			return messages.ErrConflict
		}
	}
	n := b.next()
	for i := range o.writes {
		if o.records[i] != nil || b.number(o.keys[i]) != 0 {
			b.setTracked(o.keys[i], o.records[i], n)
		}
	}
	return nil
}

// WriteDocuments does all writes or none, and returns once that is durable. Expectations are about the state before the call (messages.ErrConflict);
// of two writes of one document the later wins. If ctx ends while it waits it is not known whether the change was written.
func (s *Store) WriteDocuments(ctx context.Context, writes []messages.Write) error {
	if err := persistence.CheckWrites(writes); err != nil {
		return err
	}
	if len(writes) == 0 {
		return ctx.Err()
	}
	o := &documentsOp{writes: writes, keys: make([][]byte, len(writes)), records: make([][]byte, len(writes)), bytes: entryOverhead}
	for i, w := range writes {
		key := docKey(w.Kind, w.ID)
		o.keys[i] = key
		o.bytes += len(key) + entryOverhead
		if w.Value == nil {
			continue
		}
		record := newRecord(len(w.Value) + persistence.SealOverhead)
		if persistence.Secret(w.Kind) {
			sealed, err := s.cfg.Sealer.Seal(record, key, w.Value)
			if err != nil {
				return err
			}
			record = sealed
		} else {
			record = append(record, w.Value...)
		}
		o.records[i] = record
		o.bytes += len(record)
	}
	return s.submit(ctx, o)
}

func encodeCursor(seq uint64) []byte { return binary.BigEndian.AppendUint64(newRecord(8), seq) }

func decodeCursor(payload []byte) (uint64, error) {
	if len(payload) != 8 {
		return 0, errors.New("it has a wrong length")
	}
	return binary.BigEndian.Uint64(payload), nil
}

type cursorOp struct {
	name string
	seq  *uint64 // nil: remove
}

func (o *cursorOp) frees() bool    { return o.seq == nil }
func (*cursorOp) size() (int, int) { return 2, 1000 }

func (o *cursorOp) apply(b *batch) error {
	if o.seq == nil {
		if b.number(nameKey(familyCursor, o.name)) == 0 {
			return nil
		}
		b.next()
	}
	b.setCursor(o.name, o.seq)
	return nil
}

// SaveCursor keeps a place in a log, durable when it returns. It may go back.
func (s *Store) SaveCursor(ctx context.Context, name string, seq uint64) error {
	if err := persistence.CheckCursor(name); err != nil {
		return err
	}
	return s.submit(ctx, &cursorOp{name, &seq})
}

// DeleteCursor removes a cursor, if there is one.
func (s *Store) DeleteCursor(ctx context.Context, name string) error {
	if err := persistence.CheckCursor(name); err != nil {
		return err
	}
	return s.submit(ctx, &cursorOp{name, nil})
}

type deleteApplicationOp struct{ app string }

func (*deleteApplicationOp) frees() bool      { return true }
func (*deleteApplicationOp) size() (int, int) { return txnEntries, txnBytes } // in a transaction of its own, for its cursors

func (o *deleteApplicationOp) apply(b *batch) error {
	b.next()
	if l := b.log(o.app); l.meta.last > 0 {
		l.meta.first, l.meta.bytes, l.dirty = l.meta.last+1, 0, true
	}
	prefix := o.app + "/"
	var names []string
	b.s.curMu.RLock()
	for name := range b.s.cursors {
		if strings.HasPrefix(name, prefix) {
			names = append(names, name)
		}
	}
	b.s.curMu.RUnlock()
	for name := range b.cursors {
		if strings.HasPrefix(name, prefix) {
			names = append(names, name)
		}
	}
	for _, name := range names {
		if b.number(nameKey(familyCursor, name)) != 0 {
			b.setCursor(name, nil)
		}
	}
	return nil
}

// DeleteApplication removes the log and the cursors of an application at once; the disk space of the log comes back later.
// A log that is written again goes on counting.
func (s *Store) DeleteApplication(ctx context.Context, applicationID string) error {
	if err := persistence.CheckApplication(applicationID); err != nil {
		return err
	}
	return s.submit(ctx, &deleteApplicationOp{applicationID})
}
