package badger

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	bdb "github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"

	"lorikeet/messages"
)

const (
	databaseFolder = "badger"
	markName       = "high-water"
	memTable       = 32 << 20
	checkText      = "lorikeet"
)

// Open opens the store in cfg.Dir, or makes one. It refuses a store that lacks anything that was acknowledged (unless cfg.AcceptLoss),
// that is sealed under another key, that another process uses, or whose disk is full.
func Open(cfg Config) (_ *Store, err error) {
	if cfg.Dir == "" || cfg.Sealer == nil {
		return nil, errors.New("open the store: Dir and Sealer are needed")
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Retention == 0 {
		cfg.Retention = defaultRetention
	}
	if cfg.diskSpace == nil {
		cfg.diskSpace = diskSpace
	}
	if cfg.commit == nil {
		cfg.commit = (*bdb.Txn).Commit
	}
	s := &Store{
		cfg: cfg, log: cfg.Logger,
		tracked: newTracked(), apps: make(map[string]*appLog), cursors: make(map[string]uint64), keep: make(map[string]messages.Retention),
		queue: make(chan *request, queueLength), stop: make(chan struct{}), done: make(chan struct{}),
	}
	if err := os.MkdirAll(filepath.Join(cfg.Dir, databaseFolder), 0o700); err != nil {
		return nil, fmt.Errorf("open the store: %w", err)
	}
	if err := s.checkSpace(); err != nil {
		return nil, err
	}
	start := time.Now()
	if err := s.openDatabase(); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.db.Close())
		}
	}()
	if err := s.load(); err != nil {
		return nil, err
	}
	s.metrics = newMetrics(s)
	if err := s.metrics.register(cfg.Metrics); err != nil {
		return nil, errors.Join(err, s.mark.f.Close())
	}
	s.checkDisk()
	writes := s.state.writes // the committer's from here on
	s.workers.Add(2)
	go s.watch()
	go s.keepHouse()
	go s.runCommitter()
	s.log.Info("store is open", "folder", cfg.Dir, "sessions", s.tracked.count([]byte{familySession}), "logs", len(s.apps), "writes", writes, "took", time.Since(start))
	return s, nil
}

// checkSpace refuses to open where Badger would be killed for lack of space. With a little more than that the store opens and refuses writes.
func (s *Store) checkSpace() error {
	free, total, err := s.cfg.diskSpace(s.cfg.Dir)
	if err != nil {
		s.log.Warn("free disk space is not known", "err", err)
		return nil
	}
	if least := min(minFree(s.cfg.MinFreeBytes, total), openFloor); free < least {
		return diskFull(s.cfg.Dir, free, least)
	}
	return nil
}

// lockPatience: a process that is ending, or one that was forked and has not begun its own program, holds the lock of the folder for a moment.
const lockPatience = 500 * time.Millisecond

func isLocked(err error) bool { return strings.Contains(err.Error(), "directory lock") }

func (s *Store) openDatabase() (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("open the store: the database in %s is damaged: %v. Keep a copy of the folder, check the disk and restore a backup", s.cfg.Dir, p)
		}
	}()
	opts := bdb.DefaultOptions(filepath.Join(s.cfg.Dir, databaseFolder)).
		WithSyncWrites(true).
		WithDetectConflicts(false). // the committer orders all writes
		WithMemTableSize(memTable).
		WithNumMemtables(2).
		WithNumLevelZeroTables(3).
		WithNumLevelZeroTablesStall(8).
		WithNumCompactors(2).
		WithBlockCacheSize(16 << 20).
		WithValueThreshold(1 << 20). // more than any record: nothing goes to the value log
		WithValueLogFileSize(16 << 20).
		WithChecksumVerificationMode(options.OnBlockRead).
		WithMetricsEnabled(false).
		WithLogger(logger{s.log})
	s.db, err = bdb.Open(opts)
	for deadline := time.Now().Add(lockPatience); err != nil && isLocked(err) && time.Now().Before(deadline); {
		time.Sleep(lockPatience / 25)
		s.db, err = bdb.Open(opts)
	}
	if err != nil {
		if isLocked(err) {
			return messages.Errorf(messages.CodeUnavailable, "store_in_use", "open the store: %s is used by another process: stop that one, or give this one its own folder", s.cfg.Dir)
		}
		return fmt.Errorf("open the store: the database in %s can't be opened (if files are damaged or missing, keep a copy of the folder, check the disk and restore a backup): %w", s.cfg.Dir, err)
	}
	return nil
}

// load reads what is kept in memory and makes sure that the store is whole.
func (s *Store) load() error {
	path := filepath.Join(s.cfg.Dir, markName)
	high, markErr := readMark(path)
	payload, number, err := s.fetch(stateKey)
	if err != nil {
		return err
	}
	lost := false
	if number == 0 {
		if err := s.create(high, markErr); err != nil {
			return err
		}
	} else {
		if s.state, err = decodeState(payload); err != nil {
			return damaged(stateKey, err)
		}
		if err := s.checkSealer(); err != nil {
			return err
		}
		if lost, err = s.verify(high, markErr); err != nil {
			return err
		}
	}
	if lost {
		s.state.writes = max(s.state.writes, high.writes)
		if err := s.repair(); err != nil {
			return fmt.Errorf("repair the store: %w", err)
		}
	}
	s.mark, err = createMark(path, mark{s.state.store, s.state.writes})
	return err
}

// create begins a new store, if there is nothing at all of an old one.
func (s *Store) create(high mark, markErr error) error {
	empty := true
	err := s.db.View(func(txn *bdb.Txn) error {
		it := txn.NewIterator(bdb.IteratorOptions{})
		defer it.Close()
		it.Rewind()
		empty = !it.Valid()
		return nil
	})
	if err != nil {
		return err
	}
	if !empty {
		return damaged(stateKey, "it is missing")
	}
	if !errors.Is(markErr, fs.ErrNotExist) {
		if err := s.missing(fmt.Sprintf("the database is empty, but the high-water file says that there were %d writes", high.writes)); err != nil {
			return err
		}
	}
	var id [8]byte
	_, _ = rand.Read(id[:])
	s.state = state{store: binary.BigEndian.Uint64(id[:]), writes: high.writes + 1}
	return s.writeDirectly(s.writeCheck)
}

// writeDirectly makes a transaction before the committer runs. The state record becomes part of it.
func (s *Store) writeDirectly(fill func(*bdb.Txn) error) error {
	txn := s.db.NewTransaction(true)
	defer txn.Discard()
	if err := fill(txn); err != nil {
		return err
	}
	record := encodeState(s.state)
	finishRecord(stateKey, record, s.state.writes)
	if err := txn.Set(stateKey, record); err != nil {
		return err
	}
	return s.cfg.commit(txn)
}

func (s *Store) writeCheck(txn *bdb.Txn) error {
	record, err := s.cfg.Sealer.Seal(newRecord(100), checkKey, []byte(checkText))
	if err != nil {
		return err
	}
	finishRecord(checkKey, record, s.state.writes)
	return txn.Set(checkKey, record)
}

// checkSealer makes sure that the store was sealed under a key that is at hand.
func (s *Store) checkSealer() error {
	payload, number, err := s.fetch(checkKey)
	if err != nil {
		return err
	}
	if number == 0 {
		return damaged(checkKey, "it is missing")
	}
	id, known, current := s.cfg.Sealer.Key(payload)
	if !known {
		return messages.Errorf(messages.CodePrecondition, "wrong_kek",
			"the store in %s is sealed under the key-encryption key %s, and the one given is %s: give the key file (or environment variable) that belongs to this store. If it is lost, so are the device keys",
			s.cfg.Dir, id, s.cfg.Sealer.KeyID())
	}
	if _, err := s.cfg.Sealer.Open(checkKey, payload); err != nil {
		return damaged(checkKey, err)
	}
	if !current {
		s.state.writes++
		return s.writeDirectly(s.writeCheck)
	}
	return nil
}

// missing refuses a store that is not whole; with AcceptLoss it only says so.
func (s *Store) missing(what string) error {
	if s.cfg.AcceptLoss {
		s.log.Error("acknowledged data is missing; going on without it, as asked", "detail", what, "folder", s.cfg.Dir)
		return nil
	}
	return messages.Errorf(messages.CodePrecondition, "store_incomplete",
		"the store in %s is not whole: %s. Keep a copy of the folder, check the disk and restore the newest backup; to go on with what is left, accept the loss explicitly when starting", s.cfg.Dir, what)
}

// verify loads all tracked records, and compares the store with the high-water file, its digest and its logs. It says whether something was missing and accepted.
func (s *Store) verify(high mark, markErr error) (lost bool, err error) {
	var problems []string
	switch {
	case errors.Is(markErr, fs.ErrNotExist) && s.state.writes <= 1:
		// The process ended between making the database and the high-water file.
	case errors.Is(markErr, fs.ErrNotExist):
		problems = append(problems, "the high-water file is missing")
	case markErr != nil:
		problems = append(problems, fmt.Sprintf("the high-water file can't be read (%v)", markErr))
	case high.store != s.state.store:
		problems = append(problems, "the high-water file belongs to another store")
	case high.writes > s.state.writes:
		problems = append(problems, fmt.Sprintf("the last %d writes are missing (it ends at write %d)", high.writes-s.state.writes, s.state.writes))
	}
	bad, err := s.scanTracked()
	if err != nil {
		return false, err
	}
	problems = append(problems, bad...)
	if s.tracked.digest != s.state.digest {
		problems = append(problems, "sessions, documents, cursors or logs are missing or are older than they were")
	}
	bad, err = s.checkLogs()
	if err != nil {
		return false, err
	}
	problems = append(problems, bad...)
	if len(problems) == 0 {
		return false, nil
	}
	return true, s.missing(strings.Join(problems, "; "))
}

// scanTracked loads all tracked records. A record that can't be read is a problem; with AcceptLoss it is left out.
func (s *Store) scanTracked() (problems []string, err error) {
	for _, family := range trackedFamilies {
		err := s.db.View(func(txn *bdb.Txn) error {
			it := txn.NewIterator(bdb.IteratorOptions{Prefix: []byte{family}})
			defer it.Close()
			for it.Rewind(); it.Valid(); it.Next() {
				item := it.Item()
				err := item.Value(func(record []byte) error { return s.loadRecord(item.Key(), record) })
				var e *messages.Error
				if errors.As(err, &e) {
					return err
				}
				if err != nil {
					s.unreadable = append(s.unreadable, item.KeyCopy(nil))
					problems = append(problems, fmt.Sprintf("%s can't be read (%v)", nameOf(item.Key()), err))
				}
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	if n := len(problems); n > 5 {
		problems = append(problems[:5], fmt.Sprintf("%d more records can't be read", n-5))
	}
	return problems, nil
}

func (s *Store) loadRecord(key, record []byte) error {
	number, payload, err := parseRecord(key, record)
	if err != nil {
		return err
	}
	switch key[0] {
	case familyApp:
		m, err := decodeMeta(payload)
		if err != nil {
			return err
		}
		s.apps[string(key[1:])] = &appLog{meta: m}
	case familyCursor:
		seq, err := decodeCursor(payload)
		if err != nil {
			return err
		}
		s.cursors[string(key[1:])] = seq
	default:
		if !sealed(key) {
			break
		}
		id, known, current := s.cfg.Sealer.Key(payload)
		if !known {
			return messages.Errorf(messages.CodePrecondition, "wrong_kek", "%s is sealed under the key-encryption key %s, which was not given: give it as an older key until all records are sealed under the new one", nameOf(key), id)
		}
		if !current {
			s.reseals++
		}
	}
	s.tracked.set(key, number)
	return nil
}

// checkLogs makes sure that each log ends where it should and has no gap near its end. What lies further back is checked when it is read.
func (s *Store) checkLogs() (problems []string, err error) {
	const budget, deepest, shallowest = 500_000, 100_000, 64
	depth := uint64(min(deepest, max(shallowest, budget/max(1, len(s.apps)))))
	ctx := context.Background()
	known := make(map[string]bool)
	for app, a := range s.apps {
		known[app] = true
		m := &a.meta
		next := m.first
		if m.last > depth {
			next = max(next, m.last-depth+1)
		}
		whole := true
		err := s.walkLog(ctx, app, next, func(_ *bdb.Item, seq uint64) error {
			whole = whole && seq == next
			if seq != next {
				m.first = seq // what accepting the loss would leave
			}
			next = seq + 1
			return nil
		})
		if err != nil {
			return nil, err
		}
		if next != m.last+1 {
			whole = false
			m.last = max(m.last, next-1)
			m.first = max(m.first, m.last+1)
		}
		if !whole {
			problems = append(problems, fmt.Sprintf("the log of application %q has a gap", app))
		}
	}
	orphans, err := s.orphanLogs(known)
	for app, m := range orphans {
		s.apps[app] = &appLog{meta: m}
		problems = append(problems, fmt.Sprintf("the beginning of the log of application %q is not known", app))
	}
	return problems, err
}

// orphanLogs finds entries of applications without log meta. They are not shown any more, but their numbers are not used again.
func (s *Store) orphanLogs(known map[string]bool) (map[string]logMeta, error) {
	orphans := make(map[string]logMeta)
	err := s.db.View(func(txn *bdb.Txn) error {
		it := txn.NewIterator(bdb.IteratorOptions{Prefix: []byte{familyLog}})
		defer it.Close()
		for it.Rewind(); it.Valid(); {
			key := it.Item().KeyCopy(nil)
			app, _, _ := strings.Cut(string(key[1:]), "\x00")
			if known[app] {
				it.Seek(append(nameKey(familyLog, app), 1)) // behind its last entry
				continue
			}
			if seq, ok := logSeq(app, key); ok {
				orphans[app] = logMeta{floor: 1, first: seq + 1, last: seq, indexed: seq + 1}
			}
			it.Next()
		}
		return nil
	})
	return orphans, err
}

// repair writes what is left as the new truth.
func (s *Store) repair() error {
	s.state.writes++
	for name, seq := range s.cursors {
		app, _, _ := strings.Cut(name, "/")
		if a := s.apps[app]; a != nil && a.meta.last < seq {
			a.meta.last = seq // so that the integration does not miss what comes next
			a.meta.first = seq + 1
		}
	}
	return s.writeDirectly(func(txn *bdb.Txn) error {
		for _, key := range s.unreadable {
			if err := txn.Delete(key); err != nil {
				return err
			}
		}
		for app, a := range s.apps {
			a.meta.indexed = a.meta.last + 1 // keys may be missing as well
			key, record := nameKey(familyApp, app), encodeMeta(a.meta)
			finishRecord(key, record, s.state.writes)
			if err := txn.Set(key, record); err != nil {
				return err
			}
			s.tracked.set(key, s.state.writes)
		}
		s.state.digest = s.tracked.digest
		return nil
	})
}
