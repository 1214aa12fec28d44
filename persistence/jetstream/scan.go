package jetstream

import (
	"context"
	"slices"

	"lorikeet/messages"
)

// ScanSessions calls do for every session record, in the byte order of UIDs, and stops at its first error. Records that change meanwhile are shown
// before or after. do may call the store. It keeps the ids of all devices in memory.
func (s *Store) ScanSessions(ctx context.Context, do func(messages.DeviceID, []byte, messages.Revision) error) error {
	if err := s.enter(ctx); err != nil {
		return err
	}
	defer s.leave()
	uids, ends, err := s.devices(ctx)
	if err != nil {
		return err
	}
	for chunk := range slices.Chunk(uids, listBatch) {
		found, err := s.readSessions(ctx, chunk, ends)
		if err != nil {
			return err
		}
		for _, uid := range chunk {
			m := found[uid]
			if m == nil {
				continue
			}
			if err := ctx.Err(); err != nil {
				return err
			}
			id, err := messages.ParseUID(uid)
			if err != nil {
				return damaged(m, err)
			}
			session, rev, err := s.session(id, m)
			if err != nil {
				return err
			}
			if rev == 0 {
				continue
			}
			if err := do(id, session, rev); err != nil {
				return err
			}
		}
	}
	return nil
}

// devices gives the UIDs of all devices that have messages, in order, and where each journal ended.
func (s *Store) devices(ctx context.Context) (uids []string, ends []uint64, err error) {
	for i := range s.names.journals {
		stream := s.names.journal(i)
		end := uint64(0)
		for offset := 0; ; {
			st, total, err := s.subjects(ctx, stream, s.names.ns+".j.>", offset)
			if err != nil {
				return nil, nil, err
			}
			if offset == 0 {
				end = st.LastSeq
			}
			for subject := range st.Subjects {
				if id, _, ok := s.names.parseJournal(subject); ok && id.DeviceID != "" {
					uids = append(uids, id.UID())
				}
			}
			offset += len(st.Subjects)
			if len(st.Subjects) == 0 || offset >= total {
				break
			}
		}
		ends = append(ends, end)
	}
	slices.Sort(uids)
	return slices.Compact(uids), ends, nil
}

// readSessions reads the last messages of devices from any replica, and from the leaders where it does not have all that was there at ends.
func (s *Store) readSessions(ctx context.Context, uids []string, ends []uint64) (map[string]*stored, error) {
	found := make(map[string]*stored, len(uids))
	byShard := make(map[int][]string)
	uidOf := make(map[string]string, len(uids))
	for _, uid := range uids {
		id, err := messages.ParseUID(uid)
		if err != nil {
			continue
		}
		shard, subject := s.names.shard(id.ApplicationID), s.names.device(id)
		byShard[shard] = append(byShard[shard], subject)
		uidOf[subject] = uid
	}
	for shard, subjects := range byShard {
		stream := s.names.journal(shard)
		last, upTo, err := s.lastOfEach(ctx, stream, slices.Clone(subjects))
		if err != nil {
			return nil, err
		}
		for _, subject := range subjects {
			m := last[subject]
			if m == nil || upTo < ends[shard] {
				if m, err = s.last(ctx, stream, subject); err != nil {
					return nil, err
				}
			}
			if m != nil {
				found[uidOf[subject]] = m
			}
		}
	}
	return found, nil
}
