package jetstream

import (
	"context"
	"encoding/binary"
	"errors"
)

// A cut says that the entries of a log up to a Seq are gone, also while their messages are still there. It lies in the journal, so that
// followers see it in its place.

func encodeNumber(n uint64) []byte { return binary.BigEndian.AppendUint64([]byte{bodyVersion}, n) }

func decodeNumber(b []byte) (uint64, error) {
	switch {
	case len(b) < 1 || b[0] != bodyVersion:
		return 0, errNewer
	case len(b) != 9:
		return 0, errors.New("it has a wrong length")
	}
	return binary.BigEndian.Uint64(b[1:]), nil
}

// loadCut gives the Seq of the cut of an application and the sequence of the message that says so; 0 if there is none.
func (s *Store) loadCut(ctx context.Context, app string) (cut, at uint64, err error) {
	m, err := s.last(ctx, s.names.journal(s.names.shard(app)), s.names.cut(app))
	if err != nil || m == nil {
		return 0, 0, err
	}
	if cut, err = decodeNumber(m.data); err != nil {
		return 0, 0, damaged(m, err)
	}
	return cut, m.seq, nil
}

// saveCut moves the cut of an application forward, never back.
func (s *Store) saveCut(ctx context.Context, app string, cut uint64) error {
	old, at, err := s.loadCut(ctx, app)
	if err != nil || old >= cut {
		return err
	}
	further := false
	_, err = s.append(ctx, publication{
		stream: s.names.journal(s.names.shard(app)), subject: s.names.cut(app), data: encodeNumber(cut), after: at,
		rebase: func(last *stored) (bool, error) {
			if last == nil {
				return true, nil
			}
			old, err := decodeNumber(last.data)
			further = err == nil && old >= cut
			return old < cut, err
		},
	})
	if further {
		return nil
	}
	return err
}
