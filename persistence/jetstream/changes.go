package jetstream

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go"

	"lorikeet/messages"
	"lorikeet/persistence"
)

// awayMost is how long a follower of deletions may be without NATS: after that a tombstone may have come and gone unseen.
const awayMost = 12 * time.Hour

var errAway = messages.Errorf(messages.CodeUnavailable, "store_unavailable", "NATS could not be read for more than %s, so deletions may have been missed: start the node again", awayMost)

// lastExisting gives the sequence of the last message of a stream that is still there; 0 if it is empty.
func (s *Store) lastExisting(ctx context.Context, stream string) (uint64, error) {
	st, err := s.state(ctx, stream)
	if err != nil || st.LastSeq == 0 {
		return 0, err
	}
	m, err := s.get(ctx, stream, getRequest{Seq: st.LastSeq})
	if err != nil || m != nil {
		return st.LastSeq, err
	}
	// It was a tombstone that has expired, or has just been replaced by another.
	if m, err = s.last(ctx, stream, ">"); err != nil || m == nil {
		return 0, err
	}
	return m.seq, nil
}

// followAll follows a stream with one message a subject from its first message on. at counts what do has seen.
func (s *Store) followAll(ctx context.Context, stream string, headersOnly bool, at *progress, do func(*stored) error) error {
	ctx, cancel := s.background(ctx)
	defer cancel()
	target, err := s.lastExisting(ctx, stream)
	if err != nil {
		return err
	}
	at.begin(target)
	heard := time.Now()
	err = s.follow(ctx, feed{stream: stream, headersOnly: headersOnly}, func(m *stored) error {
		if err := do(m); err != nil {
			return err
		}
		heard = time.Now()
		at.reached(m.seq)
		return nil
	}, func() error {
		if now := time.Now(); now.Sub(heard) > awayMost {
			return errAway
		}
		heard = time.Now()
		return nil
	})
	if s.ctx.Err() != nil {
		return errClosed
	}
	return err
}

// FollowDocuments calls fn for every document there is, and then for every change of any node, in the order in which they were made, until ctx ends or
// the store closes. It goes on through elections and reconnects without missing a change; only after twelve hours without NATS it gives up.
// Of several changes of one document in a row only the last may be told. A deleted document has no value, and the deletion's revision; one may be
// announced that fn never saw. fn must not wait for SyncDocuments.
func (s *Store) FollowDocuments(ctx context.Context, fn func(doc messages.Document, deleted bool)) error {
	if err := s.enter(ctx); err != nil {
		return err
	}
	s.leave() // it goes on until Close, which must not wait for it
	at := &progress{}
	at.init()
	s.feedsMu.Lock()
	s.docFeeds[at] = struct{}{}
	s.feedsMu.Unlock()
	defer func() {
		s.feedsMu.Lock()
		defer s.feedsMu.Unlock()
		delete(s.docFeeds, at)
		at.fail(nil)
	}()
	return s.followAll(ctx, s.names.registry(), false, at, func(m *stored) error {
		kind, id, ok := s.names.parseDocument(m.subject)
		if !ok {
			return nil // the check record
		}
		d, ok, err := s.document(kind, id, m)
		if err != nil {
			return err
		}
		if !ok { // a deletion comes in the order of revisions too
			d = messages.Document{Kind: kind, ID: id, Revision: messages.Revision(m.seq)}
		}
		fn(d, !ok)
		if ok && persistence.Secret(kind) {
			s.resealLater(documentName(kind, id), m)
		}
		return nil
	})
}

// SyncDocuments returns when every FollowDocuments of this node has called fn for every change that was durable, on whichever node, when
// SyncDocuments was called.
func (s *Store) SyncDocuments(ctx context.Context) error {
	if err := s.enter(ctx); err != nil {
		return err
	}
	defer s.leave()
	target, err := s.lastExisting(ctx, s.names.registry())
	if err != nil {
		return err
	}
	s.feedsMu.Lock()
	feeds := make([]*progress, 0, len(s.docFeeds))
	for at := range s.docFeeds {
		feeds = append(feeds, at)
	}
	s.feedsMu.Unlock()
	for _, at := range feeds {
		if err := at.await(ctx, target); err != nil {
			return err
		}
	}
	return nil
}

func entryName(id messages.DeviceID) []byte { return []byte("e" + id.UID()) }

// PutEntry writes the directory entry of a device, sealed, and returns when it is durable; nil deletes it. The later of two calls wins.
func (s *Store) PutEntry(ctx context.Context, id messages.DeviceID, entry []byte) error {
	if err := persistence.CheckDevice(id); err != nil {
		return err
	}
	if len(entry) > persistence.MaxRecord {
		return messages.Invalid("record_too_large", "directory entry of %s has %d bytes, more than the %d that are stored", id, len(entry), persistence.MaxRecord)
	}
	if err := s.enter(ctx); err != nil {
		return err
	}
	defer s.leave()
	stream, subject := s.names.directory(), s.names.entry(id)
	last, err := s.last(ctx, stream, subject)
	if err != nil || entry == nil && (last == nil || last.deleted()) {
		return err
	}
	p := publication{stream: stream, subject: subject, rebase: func(*stored) (bool, error) { return true, nil }}
	if last != nil {
		p.after = last.seq
	}
	if entry == nil {
		p.header = nats.Header{headerDeleted: {"1"}, headerTTL: {tombstoneTTL}}
	} else if p.data, err = s.cfg.Sealer.Seal(nil, entryName(id), entry); err != nil {
		return err
	}
	_, err = s.append(ctx, p)
	return err
}

// FollowEntries calls fn for every directory entry there is, then caughtUp, and then fn for each change of any node, until ctx ends or the store
// closes. entry is nil if it was deleted. An entry that can't be opened is logged and left out: one damaged record must not stop the directory.
// It goes on through elections and reconnects like FollowDocuments.
func (s *Store) FollowEntries(ctx context.Context, fn func(id messages.DeviceID, entry []byte), caughtUp func()) error {
	if err := s.enter(ctx); err != nil {
		return err
	}
	s.leave()
	at := &progress{}
	at.init()
	waiting := true
	check := func(seq uint64) {
		if waiting && at.done(seq) {
			waiting = false
			caughtUp()
		}
	}
	at.begun = func() { check(0) }
	return s.followAll(ctx, s.names.directory(), false, at, func(m *stored) error {
		id, ok := s.names.parseEntry(m.subject)
		if !ok {
			return damaged(m, errors.New("its subject is not of a device"))
		}
		if m.deleted() {
			fn(id, nil)
		} else if entry, err := s.cfg.Sealer.Open(entryName(id), m.data); err == nil {
			fn(id, entry)
			s.resealLater(entryName(id), m)
		} else {
			s.log.Error("a directory entry can't be read and is left out", "application_id", id.ApplicationID, "device_id", id.DeviceID, "err", err)
		}
		check(m.seq)
		return nil
	})
}
