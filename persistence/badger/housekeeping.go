package badger

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	bdb "github.com/dgraph-io/badger/v4"

	"lorikeet/messages"
	"lorikeet/persistence"
)

const (
	watchInterval = time.Second
	trimInterval  = time.Minute
	firstScrub    = 10 * time.Minute
	scrubInterval = 24 * time.Hour
	trimChunk     = 1000 // entries that are removed in one transaction

	// openFloor is what must be free for Badger to open at all: it maps a new log file and writes its old ones out as tables.
	openFloor = 192 << 20
)

// watch looks at the disk and syncs the high-water file, each second.
func (s *Store) watch() {
	defer s.workers.Done()
	t := time.NewTicker(watchInterval)
	defer t.Stop()
	for {
		select {
		case <-s.stop:
			return
		case <-t.C:
			s.checkDisk()
			if err := s.mark.sync(); err != nil {
				s.fail(err)
			}
		}
	}
}

// checkDisk refuses or allows writes by what is free.
func (s *Store) checkDisk() {
	free, total, err := s.cfg.diskSpace(s.cfg.Dir)
	if err != nil {
		s.log.Warn("free disk space is not known", "err", err)
		return
	}
	s.free.Store(free)
	least := minFree(s.cfg.MinFreeBytes, total)
	was := s.full.Load() != nil
	switch {
	case free < least:
		s.full.Store(diskFull(s.cfg.Dir, free, least))
		if !was {
			s.log.Error("disk is nearly full; writes are refused until space is free", "free_bytes", free, "needed_bytes", least, "folder", s.cfg.Dir)
		}
	case was && free < least+least/16:
		// A little above the limit, so that it does not switch back and forth.
	case was:
		s.full.Store(nil)
		s.log.Info("disk has space again; writes are accepted", "free_bytes", free)
	}
}

func minFree(configured, total uint64) uint64 {
	if configured > 0 {
		return configured
	}
	return min(max(total/20, 256<<20), 1<<30)
}

func diskFull(dir string, free, least uint64) *messages.Error {
	return messages.Errorf(messages.CodeUnavailable, "disk_full",
		"the disk of %s has %d MiB free and the store needs %d MiB: free space there, shorten the log retention or move the store to a larger disk; writing goes on by itself after that",
		dir, free>>20, least>>20)
}

// keepHouse trims the logs each minute and checks all blocks on disk once a day.
func (s *Store) keepHouse() {
	defer s.workers.Done()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		select {
		case <-s.stop:
			cancel()
		case <-ctx.Done():
		}
	}()
	if s.reseals > 0 {
		if err := s.resealAll(ctx); err != nil && ctx.Err() == nil {
			s.log.Warn("records are still sealed under an older key; tried again at the next start", "err", err)
		}
	}
	if err := s.fillIndex(ctx); err != nil && ctx.Err() == nil && !errors.Is(err, errClosed) {
		s.log.Warn("the index of the logs is not complete; history is read slowly, and it is tried again at the next start", "err", err)
	}
	trim, scrub := time.NewTicker(trimInterval), time.NewTimer(firstScrub)
	defer trim.Stop()
	defer scrub.Stop()
	for {
		select {
		case <-s.stop:
			return
		case <-trim.C:
			if err := s.trimAll(ctx); err != nil && ctx.Err() == nil && !errors.Is(err, errClosed) {
				s.log.Warn("log could not be trimmed; tried again in a minute", "err", err)
			}
		case <-scrub.C:
			if err := s.scrub(); err != nil {
				s.fail(err)
			}
			scrub.Reset(scrubInterval)
		}
	}
}

// scrub reads all blocks of all tables and compares their checksums. Badger panics on some kinds of damage.
func (s *Store) scrub() (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("a table of the database is damaged: %v", p)
		}
	}()
	if err := s.enter(context.Background()); err != nil {
		return nil
	}
	defer s.leave()
	if err := s.db.VerifyChecksum(); err != nil {
		return fmt.Errorf("a table of the database is damaged: %w", err)
	}
	return nil
}

// trimAll removes from all logs what the retention does not keep.
func (s *Store) trimAll(ctx context.Context) error {
	var errs []error
	for app, a := range s.allApps() {
		if err := s.trim(ctx, app, a); err != nil {
			errs = append(errs, fmt.Errorf("log of application %q: %w", app, err))
		}
	}
	return errors.Join(errs...)
}

// trim first moves the visible beginning of a log, then removes what lies before it, in small steps between other writes.
func (s *Store) trim(ctx context.Context, app string, a *appLog) error {
	for {
		m := a.view()
		first, size, err := s.expired(ctx, app, m)
		if err != nil {
			return err
		}
		if first == m.first {
			break
		}
		if err := s.submit(ctx, &trimOp{app: app, from: m.first, first: first, bytes: size}); err != nil {
			return err
		}
	}
	for m := a.view(); m.floor < m.first; m = a.view() {
		to := min(m.first, m.floor+trimChunk)
		keys, err := s.indexKeys(ctx, app, m.floor, to)
		if err != nil {
			return err
		}
		if err := s.submit(ctx, &purgeOp{app: app, floor: m.floor, to: to, index: keys}); err != nil {
			return err
		}
	}
	return nil
}

// expired looks at some of the oldest entries and gives where the log should begin, and the size of what lies before that.
func (s *Store) expired(ctx context.Context, app string, m logMeta) (first, size uint64, err error) {
	first = m.first
	if m.first > m.last {
		return first, 0, nil
	}
	if err := s.enter(ctx); err != nil {
		return 0, 0, err
	}
	defer s.leave()
	oldest := time.Time{}
	if s.cfg.Retention > 0 {
		oldest = s.cfg.Now().Add(-s.cfg.Retention)
	}
	wantedTime, wantedFirst := s.shorter(app, m)
	awaited := s.awaited(app)
	err = s.walkLog(ctx, app, m.first, func(item *bdb.Item, seq uint64) error {
		if seq > m.last || seq-m.first >= 16*trimChunk {
			return errStop
		}
		return item.Value(func(record []byte) error {
			_, payload, err := parseRecord(item.Key(), record)
			if err != nil {
				return damaged(item.Key(), err)
			}
			tooMuch := s.cfg.RetentionBytes > 0 && m.bytes-min(size, m.bytes) > s.cfg.RetentionBytes
			at := eventTime(payload)
			unwanted := seq < awaited && (at.UnixNano() < wantedTime || seq < wantedFirst)
			if !tooMuch && !unwanted && !at.Before(oldest) {
				return errStop
			}
			first = seq + 1
			size += uint64(len(item.Key()) + len(record))
			return nil
		})
	})
	return first, size, err
}

// trimOp hides the entries from..first-1.
type trimOp struct {
	app         string
	from, first uint64
	bytes       uint64
}

func (*trimOp) frees() bool      { return true }
func (*trimOp) size() (int, int) { return 2, 1000 }

func (o *trimOp) apply(b *batch) error {
	if l := b.log(o.app); l.meta.first == o.from {
		b.next()
		l.meta.first = o.first
		l.meta.bytes -= min(o.bytes, l.meta.bytes)
		l.dirty = true
	}
	return nil
}

// purgeOp removes the hidden entries floor..to-1 from the database, and their keys from the index.
type purgeOp struct {
	app       string
	floor, to uint64
	index     [][]byte
}

func (*purgeOp) frees() bool { return true }

func (o *purgeOp) size() (int, int) {
	n := int(o.to-o.floor) + 2
	size := n * (len(o.app) + entryOverhead)
	for _, key := range o.index {
		size += len(key) + entryOverhead
	}
	return n + len(o.index), size
}

func (o *purgeOp) apply(b *batch) error {
	l := b.log(o.app)
	if l.meta.floor != o.floor || o.to > l.meta.first {
		return nil
	}
	b.next()
	for seq := o.floor; seq < o.to; seq++ {
		b.remove(logKey(o.app, seq))
	}
	for _, key := range o.index {
		b.remove(key)
	}
	l.meta.floor, l.dirty = o.to, true
	return nil
}

// resealAll seals records that are under an older key-encryption key under the current one. Their revisions stay.
func (s *Store) resealAll(ctx context.Context) error {
	if err := s.enter(ctx); err != nil {
		return err
	}
	defer s.leave()
	for _, family := range []byte{familySession, familyDoc} {
		prefix := []byte{family}
		err := s.walk(ctx, prefix, prefix, nil, func(key, payload []byte, number uint64) error {
			if !sealed(key) {
				return nil
			}
			if _, _, current := s.cfg.Sealer.Key(payload); current {
				return nil
			}
			key = bytes.Clone(key)
			plain, err := s.open(key, payload, true)
			if err != nil {
				return err
			}
			record, err := s.cfg.Sealer.Seal(newRecord(len(plain)+persistence.SealOverhead), key, plain)
			if err != nil {
				return err
			}
			return s.submit(ctx, &resealOp{key, record, number})
		})
		if err != nil {
			return err
		}
	}
	s.log.Info("all secrets are sealed under the current key-encryption key; older keys are not needed any more", "records", s.reseals)
	return nil
}

// resealOp writes a record again as it is, if it is still at the same write.
type resealOp struct {
	key, record []byte
	number      uint64
}

func (*resealOp) frees() bool        { return false }
func (o *resealOp) size() (int, int) { return 2, len(o.key) + len(o.record) + 2*entryOverhead }

func (o *resealOp) apply(b *batch) error {
	if b.number(o.key) == o.number {
		b.next()
		b.set(o.key, o.record, o.number)
	}
	return nil
}
