package jetstream

import (
	"context"
	"fmt"
	"maps"
	"math"

	"lorikeet/messages"
)

// SetRetention shortens the log of an application from the next trimming on, within minutes. The zero value leaves it to the retention of the store. It is
// kept in memory, on each node: the caller sets it again after a start. Events that leave the log this way can't be read any more; their disk space
// comes back with the retention of the store.
func (s *Store) SetRetention(applicationID string, r messages.Retention) {
	s.keepMu.Lock()
	defer s.keepMu.Unlock()
	if r == (messages.Retention{}) {
		delete(s.keep, applicationID)
		return
	}
	s.keep[applicationID] = r
}

// shortenLogs cuts the logs of the applications that want less than the store keeps. Several nodes may do so at once.
func (s *Store) shortenLogs(ctx context.Context) error {
	s.keepMu.Lock()
	keep := maps.Clone(s.keep)
	s.keepMu.Unlock()
	for app, r := range keep {
		if err := s.shortenLog(ctx, app, r); err != nil {
			return fmt.Errorf("shorten the log of %s: %w", app, err)
		}
	}
	return nil
}

func (s *Store) shortenLog(ctx context.Context, app string, r messages.Retention) error {
	stream := s.names.journal(s.names.shard(app))
	st, err := s.state(ctx, stream)
	if err != nil {
		return err
	}
	cut, _, err := s.loadCut(ctx, app)
	if err != nil {
		return err
	}
	low, high := max((cut+1)>>indexBits, st.FirstSeq, 1), st.LastSeq+1
	first := low
	if r.MaxAge > 0 {
		if first, err = s.firstEventSince(ctx, app, low, high, s.cfg.Now().Add(-r.MaxAge)); err != nil {
			return err
		}
	}
	if r.MaxEvents > 0 {
		newest, err := s.newestMessages(ctx, app, first, high, r.MaxEvents)
		if err != nil {
			return err
		}
		first = max(first, newest)
	}
	awaited, err := s.awaited(ctx, app)
	if err != nil {
		return err
	}
	if next := min(firstSeq(first), awaited); next > cut+1 && first > low {
		return s.saveCut(ctx, app, next-1)
	}
	return nil
}

// newestMessages gives the first message in low..high-1 from which on the application has at most so many.
func (s *Store) newestMessages(ctx context.Context, app string, low, high, most uint64) (uint64, error) {
	for low < high {
		mid := low + (high-low)/2
		n, err := s.pendingFrom(ctx, s.names.journal(s.names.shard(app)), s.names.log(app), mid)
		if err != nil {
			return 0, err
		}
		if n > most {
			low = mid + 1
		} else {
			high = mid
		}
	}
	return low, nil
}

// awaited is the first entry that someone with a cursor in the log of an application has not got yet.
func (s *Store) awaited(ctx context.Context, app string) (uint64, error) {
	first := uint64(math.MaxUint64)
	st, _, err := s.subjects(ctx, s.names.cursors(), s.names.ns+".u."+token(app)+".*", 0)
	if err != nil {
		return 0, err
	}
	for subject := range st.Subjects {
		m, err := s.last(ctx, s.names.cursors(), subject)
		if err != nil {
			return 0, err
		}
		if m == nil {
			continue // deleted meanwhile
		}
		seq, err := decodeNumber(m.data)
		if err != nil {
			return 0, damaged(m, err)
		}
		if seq < math.MaxUint64 {
			first = min(first, seq+1)
		}
	}
	return first, nil
}
