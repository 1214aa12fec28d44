package jetstream

import (
	"context"

	"lorikeet/persistence"
)

// LoadCursor gives the place that was saved under the name; false if none was.
func (s *Store) LoadCursor(ctx context.Context, name string) (uint64, bool, error) {
	if err := s.enter(ctx); err != nil {
		return 0, false, err
	}
	defer s.leave()
	m, err := s.last(ctx, s.names.cursors(), s.names.cursor(name))
	if err != nil || m == nil {
		return 0, false, err
	}
	seq, err := decodeNumber(m.data)
	if err != nil {
		return 0, false, damaged(m, err)
	}
	return seq, true, nil
}

// SaveCursor keeps a place in a log, durable when it returns. It may go back.
func (s *Store) SaveCursor(ctx context.Context, name string, seq uint64) error {
	if err := persistence.CheckCursor(name); err != nil {
		return err
	}
	if err := s.enter(ctx); err != nil {
		return err
	}
	defer s.leave()
	s.curMu.Lock()
	after := s.cursors[name]
	s.curMu.Unlock()
	at, err := s.append(ctx, publication{
		stream: s.names.cursors(), subject: s.names.cursor(name), data: encodeNumber(seq), after: after,
		rebase: func(*stored) (bool, error) { return true, nil }, // the later call wins; that it expects something keeps a late copy of an earlier one out
	})
	if err != nil {
		return err
	}
	s.curMu.Lock()
	defer s.curMu.Unlock()
	s.cursors[name] = max(s.cursors[name], at)
	return nil
}

// DeleteCursor removes a cursor, if there is one.
func (s *Store) DeleteCursor(ctx context.Context, name string) error {
	if err := persistence.CheckCursor(name); err != nil {
		return err
	}
	if err := s.enter(ctx); err != nil {
		return err
	}
	defer s.leave()
	s.curMu.Lock()
	delete(s.cursors, name)
	s.curMu.Unlock()
	return s.purge(ctx, s.names.cursors(), s.names.cursor(name), 0)
}

// DeleteApplication removes the log and the cursors of an application; the disk space of the log comes back with the retention.
// Session records stay. A log that is written again goes on counting.
func (s *Store) DeleteApplication(ctx context.Context, applicationID string) error {
	if err := persistence.CheckApplication(applicationID); err != nil {
		return err
	}
	if err := s.enter(ctx); err != nil {
		return err
	}
	defer s.leave()
	if err := s.purge(ctx, s.names.cursors(), s.names.ns+".u."+token(applicationID)+".*", 0); err != nil {
		return err
	}
	stream := s.names.journal(s.names.shard(applicationID))
	last, err := s.last(ctx, stream, s.names.log(applicationID))
	if err != nil || last == nil {
		return err
	}
	cut := lastSeq(last.seq)
	if err := s.saveCut(ctx, applicationID, cut); err != nil {
		return err
	}
	a := s.appLog(applicationID, false)
	if a == nil {
		return nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	before := a.ring.bytes
	a.cut = max(a.cut, cut)
	if a.ready {
		a.ring.cut(cut)
	}
	s.rings.Add(int64(a.ring.bytes - before))
	a.signal()
	return nil
}
