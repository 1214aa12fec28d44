package jetstream

import (
	"context"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"

	"lorikeet/messages"
	"lorikeet/persistence"
)

func sessionName(id messages.DeviceID) []byte { return []byte("s" + id.UID()) }

// LoadSession gives the session record of a device; without a record nil and 0. It asks the leader of the stream.
func (s *Store) LoadSession(ctx context.Context, id messages.DeviceID) ([]byte, messages.Revision, error) {
	if err := s.enter(ctx); err != nil {
		return nil, 0, err
	}
	defer s.leave()
	m, err := s.last(ctx, s.names.journal(s.names.shard(id.ApplicationID)), s.names.device(id))
	if err != nil || m == nil {
		return nil, 0, err
	}
	return s.session(id, m)
}

// session opens the record in a message of a device.
func (s *Store) session(id messages.DeviceID, m *stored) ([]byte, messages.Revision, error) {
	rev, b, err := revisionOf(m)
	if err != nil || rev == 0 {
		return nil, 0, err
	}
	session, err := s.cfg.Sealer.Open(sessionName(id), b.record)
	if err != nil {
		return nil, 0, damaged(m, err)
	}
	return session, rev, nil
}

// revisionOf gives the revision of the record in a message of a device; 0 if it has none.
func revisionOf(m *stored) (messages.Revision, body, error) {
	b, err := decodeBody(m.data)
	if err != nil {
		return 0, b, damaged(m, err)
	}
	switch {
	case b.record == nil:
		return 0, b, nil
	case b.revision != 0:
		return messages.Revision(b.revision), b, nil
	}
	return messages.Revision(m.seq), b, nil
}

// Commit writes a session record and appends events to the log, all or nothing, and returns once that is durable. It gives the new revision, or
// Expected if there was no Session. messages.ErrConflict: the record is not at Expected, nothing was written.
// If ctx ends while Commit waits, the error is of messages.CodeUnavailable, and it is not known whether the commit was or still will be written:
// load the session again before deciding anything. Give ctx an end: elections and broken connections are waited for until then.
func (s *Store) Commit(ctx context.Context, c messages.Commit) (messages.Revision, error) {
	if err := persistence.CheckCommit(c); err != nil {
		return 0, err
	}
	if err := s.enter(ctx); err != nil {
		return 0, err
	}
	defer s.leave()
	if c.Session == nil && len(c.Events) == 0 {
		return c.Expected, nil
	}
	start := time.Now()
	rev, seq, err := s.commit(ctx, c)
	s.metrics.observe(start, err)
	if err != nil {
		return 0, err
	}
	if len(c.Events) > 0 {
		s.metrics.appended.Add(float64(len(c.Events)))
		s.committed(c.Device.ApplicationID, seq)
	}
	return rev, nil
}

func (s *Store) commit(ctx context.Context, c messages.Commit) (rev messages.Revision, seq uint64, err error) {
	app := c.Device.ApplicationID
	stream := s.names.journal(s.names.shard(app))
	header := nats.Header{}
	if len(c.Events) > 0 {
		header.Set(headerEvents, strconv.Itoa(len(c.Events)))
	}
	if c.Session == nil {
		seq, err = s.appendOnce(ctx, stream, s.names.eventsOnly(app), header, encodeBody(0, nil, c.Events))
		return c.Expected, seq, err
	}
	record, err := s.cfg.Sealer.Seal(nil, sessionName(c.Device), c.Session)
	if err != nil {
		return 0, 0, err
	}
	seq, err = s.append(ctx, publication{
		stream: stream, subject: s.names.device(c.Device), header: header, data: encodeBody(0, record, c.Events), after: uint64(c.Expected),
		// The record may have been carried over to a newer message by the trimmer, or have been deleted.
		rebase: func(last *stored) (bool, error) {
			if last == nil {
				return c.Expected == 0, nil
			}
			rev, _, err := revisionOf(last)
			return rev == c.Expected, err
		},
	})
	return messages.Revision(seq), seq, err
}

// DeleteSession removes a session record, if there is one. An activation that still holds it gets messages.ErrConflict on its next commit,
// also if there is a new record by then.
func (s *Store) DeleteSession(ctx context.Context, id messages.DeviceID) error {
	if err := persistence.CheckDevice(id); err != nil {
		return err
	}
	if err := s.enter(ctx); err != nil {
		return err
	}
	defer s.leave()
	stream, subject := s.names.journal(s.names.shard(id.ApplicationID)), s.names.device(id)
	last, err := s.last(ctx, stream, subject)
	if err != nil || last == nil {
		return err
	}
	if rev, _, err := revisionOf(last); err != nil || rev == 0 {
		return err
	}
	_, err = s.append(ctx, publication{
		stream: stream, subject: subject, header: nats.Header{headerDeleted: {"1"}}, data: encodeBody(0, nil, nil), after: last.seq,
		rebase: func(*stored) (bool, error) { return true, nil },
	})
	return err
}
