package badger

import (
	"math"
	"strings"

	"lorikeet/messages"
)

// SetRetention shortens the log of an application from the next trimming on, within a minute. The zero value leaves it to the retention of the store. It is
// kept in memory: the caller sets it again after a start.
func (s *Store) SetRetention(applicationID string, r messages.Retention) {
	s.keepMu.Lock()
	defer s.keepMu.Unlock()
	if r == (messages.Retention{}) {
		delete(s.keep, applicationID)
		return
	}
	s.keep[applicationID] = r
}

// shorter says which entries an application wants to be rid of: those that are older, or that more than enough follow, before the first that someone
// with a cursor has not got yet.
func (s *Store) shorter(app string, m logMeta) (oldest int64, first uint64) {
	s.keepMu.Lock()
	r := s.keep[app]
	s.keepMu.Unlock()
	oldest = math.MinInt64
	if r == (messages.Retention{}) {
		return oldest, 0
	}
	if r.MaxAge > 0 {
		oldest = s.cfg.Now().Add(-r.MaxAge).UnixNano()
	}
	if r.MaxEvents > 0 && m.last >= r.MaxEvents {
		first = m.last - r.MaxEvents + 1
	}
	return oldest, first
}

// awaited is the first entry that someone with a cursor in the log of an application has not got yet.
func (s *Store) awaited(app string) uint64 {
	prefix := app + "/"
	first := uint64(math.MaxUint64)
	s.curMu.RLock()
	defer s.curMu.RUnlock()
	for name, seq := range s.cursors {
		if strings.HasPrefix(name, prefix) && seq < math.MaxUint64 {
			first = min(first, seq+1)
		}
	}
	return first
}
