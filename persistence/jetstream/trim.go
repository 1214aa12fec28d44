package jetstream

import (
	"context"
	"errors"
	"math/rand/v2"
	"strconv"
	"time"

	"lorikeet/messages"
)

const (
	trimEvery = 5 * time.Minute
	trimTime  = 30 * time.Minute // for one journal
	carryMany = 20_000           // records collected before they are written again
	carrySize = 16 << 20         // and their size
)

// keepTrimming trims the journals now and then. Every node does so, but who finds that another has just been there leaves it.
func (s *Store) keepTrimming(ctx context.Context) {
	every := min(trimEvery, max(s.cfg.Retention/10, time.Second))
	t := time.NewTimer(every/2 + rand.N(every))
	defer t.Stop()
	for {
		select {
		case <-t.C:
			t.Reset(every + rand.N(every/4))
		case <-ctx.Done():
			return
		}
		if err := s.shortenLogs(ctx); err != nil && ctx.Err() == nil {
			s.log.Warn("logs of applications can't be shortened at present; trying again", "err", err)
		}
		for i := range s.names.journals {
			one, cancel := context.WithTimeout(ctx, trimTime)
			err := s.trim(one, i, every/2)
			cancel()
			if err != nil && ctx.Err() == nil {
				s.log.Warn("old events can't be removed at present; trying again", "journal", i, "err", err)
			}
		}
	}
}

var errBehind = errors.New("the replica that was read is behind")

// trim removes what is older than the retention from a journal, if there is something that is older by slack.
//
// First the application's cuts say what leaves their logs. Then the records that lie among what is to go, being the last messages of silent devices,
// are written again behind everything else, with the revision they had. Only then is the journal purged. Whatever is interrupted can be done again,
// and if two nodes do it at once, the expectation on each message lets one of them win.
func (s *Store) trim(ctx context.Context, journal int, slack time.Duration) error {
	stream := s.names.journal(journal)
	first, err := s.next(ctx, stream, ">", 1)
	if err != nil || first == nil {
		return err
	}
	cutoff := s.cfg.Now().Add(-s.cfg.Retention)
	if !first.time.Before(cutoff.Add(-slack)) {
		return nil
	}
	end, err := s.firstSince(ctx, stream, first.seq, cutoff)
	if err != nil || end <= first.seq {
		return err
	}
	start := time.Now()
	removed, err := s.cutLogs(ctx, stream, first.seq, end)
	if err != nil {
		return err
	}
	carried, err := s.carryRecords(ctx, stream, end)
	if err != nil {
		return err
	}
	if err := s.purge(ctx, stream, "", end); err != nil {
		return err
	}
	s.metrics.trimmed.Add(float64(removed))
	s.metrics.carried.Add(float64(carried))
	s.log.Debug("journal trimmed", "stream", stream, "events", removed, "records", carried, "took", time.Since(start))
	return nil
}

// firstSince gives the sequence of the first message of a time or later, but never more than that of the last message.
func (s *Store) firstSince(ctx context.Context, stream string, low uint64, t time.Time) (uint64, error) {
	st, err := s.state(ctx, stream)
	if err != nil {
		return 0, err
	}
	high := st.LastSeq
	for low < high {
		mid := low + (high-low)/2
		m, err := s.next(ctx, stream, ">", mid)
		if err != nil {
			return 0, err
		}
		if m != nil && m.time.Before(t) {
			low = m.seq + 1
		} else {
			high = mid
		}
	}
	return min(low, st.LastSeq), nil
}

// cutLogs marks for each application what is below end, and gives the number of events that are.
func (s *Store) cutLogs(ctx context.Context, stream string, from, end uint64) (removed int, err error) {
	cuts := make(map[string]uint64)
	complete := false
	next := from
	err = s.followOnce(ctx, feed{stream: stream, headersOnly: true}, &next, func(m *stored) error {
		if m.seq >= end {
			complete = true
			return errStop
		}
		n, err := strconv.Atoi(m.header.Get(headerEvents))
		id, cut, ok := s.names.parseJournal(m.subject)
		if err != nil || n < 1 || !ok || cut {
			return nil
		}
		removed += n
		cuts[id.ApplicationID] = firstSeq(m.seq) + uint64(n) - 1
		return nil
	}, nil)
	if !complete {
		return 0, errors.Join(errBehind, err)
	}
	for app, cut := range cuts {
		if err := s.saveCut(ctx, app, cut); err != nil {
			return 0, err
		}
	}
	return removed, nil
}

// carryRecords writes the last messages again that are below end, and gives the number of session records among them. One is on its way at a time:
// that is pace enough.
func (s *Store) carryRecords(ctx context.Context, stream string, end uint64) (carried int, err error) {
	for complete := false; !complete; {
		var batch []stored
		size := 0
		full := false
		next := uint64(1)
		err := s.followOnce(ctx, feed{stream: stream, filters: []string{">"}, lastOnly: true}, &next, func(m *stored) error {
			complete = m.seq >= end
			full = len(batch) >= carryMany || size >= carrySize
			if complete || full {
				return errStop
			}
			batch = append(batch, *m)
			size += len(m.data) + len(m.subject)
			return nil
		}, nil)
		if !complete && !full {
			return carried, errors.Join(errBehind, err)
		}
		for i := range batch {
			ok, err := s.carry(ctx, stream, &batch[i])
			if err != nil {
				return carried, err
			}
			if ok {
				carried++
			}
		}
	}
	return carried, nil
}

// carry writes the last message of a subject again, if it holds what must stay: a session record (without its events), or a cut.
func (s *Store) carry(ctx context.Context, stream string, m *stored) (record bool, err error) {
	id, cut, ok := s.names.parseJournal(m.subject)
	p := publication{stream: stream, subject: m.subject, data: m.data, after: m.seq}
	switch {
	case !ok:
		return false, damaged(m, errors.New("its subject is unknown"))
	case cut:
	case id.DeviceID == "":
		return false, nil
	default:
		rev, b, err := revisionOf(m)
		if err != nil || rev == 0 {
			return false, err
		}
		if b.record, err = s.reseal(sessionName(id), b.record); err != nil {
			return false, damaged(m, err)
		}
		record, p.data = true, encodeBody(uint64(rev), b.record, nil)
	}
	if _, err = s.append(ctx, p); errors.Is(err, messages.ErrConflict) {
		return false, nil // there is something newer
	}
	return record && err == nil, err
}
