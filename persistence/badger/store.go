// Package badger is the store of one node: everything in one folder, in an embedded Badger database.
//
// One goroutine, the committer, writes. It takes all requests that wait, checks their revisions, puts them into as few transactions as possible,
// syncs, and wakes the callers: many devices share one fsync, and "durable before acknowledged" costs little. After a write or sync error
// it refuses everything that follows, because what the disk holds is not known any more (Config.OnFailure should end the process).
//
// Badger by itself can lose what a damaged block or log held without saying so. So every value carries a checksum over its key and content
// (record.go), a digest in every transaction covers the newest version of every session, document, cursor and log range (tracked.go), log entries are
// numbered without gaps, and a small file outside Badger holds the number of the last durable write (mark.go). Open refuses a store that
// is not whole. All values stay in the LSM tree (none is as large as the threshold), so the value log stays empty.
package badger

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	bdb "github.com/dgraph-io/badger/v4"
	"github.com/prometheus/client_golang/prometheus"

	"lorikeet/messages"
	"lorikeet/persistence"
)

// Config says where and how to store. Dir and Sealer are required.
type Config struct {
	Dir     string              // folder of the store; made if it is not there
	Sealer  *persistence.Sealer // seals session records and documents that hold secrets
	Logger  *slog.Logger        // nil: none
	Metrics prometheus.Registerer
	Now     func() time.Time // for the retention; nil: time.Now

	// OnFailure is called once, from a goroutine of its own, when the store can't go on (a write or sync failed, or a block on disk is damaged).
	// All writes are refused from then on: end the process, so that the next start finds out what is durable.
	OnFailure func(error)

	// MinFreeBytes is what must stay free on the disk: below it writes are refused ("disk_full") until space is back.
	// 0: 5 % of the disk, but at least 256 MiB and at most 1 GiB. A full disk would kill the process, because Badger maps its files into memory.
	MinFreeBytes uint64

	Retention      time.Duration // log entries older than this are removed; 0: 7 days, negative: never
	RetentionBytes uint64        // at most this much log per application, the oldest go first; 0: no limit

	// AcceptLoss opens a store that lacks what was acknowledged (an older backup was restored, files are damaged) with what is left.
	// The caller must then raise FCntDown of every device by a safe step, since numbers that were used may be gone.
	AcceptLoss bool

	// For tests.
	diskSpace func(path string) (free, total uint64, err error)
	commit    func(*bdb.Txn) error
}

const (
	queueLength      = 2048
	defaultRetention = 7 * 24 * time.Hour
	closeTimeout     = 10 * time.Second // of a store that has failed
)

// Store keeps sessions, the registry, logs and cursors durably. All its methods may be called concurrently. What is given to a write must not be
// changed afterwards, not even after the call gave up: it may still be on its way to the disk.
type Store struct {
	cfg  Config
	log  *slog.Logger
	db   *bdb.DB
	mark *markFile

	tracked *tracked
	appsMu  sync.RWMutex
	apps    map[string]*appLog
	curMu   sync.RWMutex
	cursors map[string]uint64

	keepMu sync.Mutex
	keep   map[string]messages.Retention // of applications that want less than Config.Retention

	queue    chan *request
	commitMu sync.Mutex // held while a batch is on its way; whoever holds it sees a settled state
	state    state      // as committed
	ringSize int        // of all rings; the committer's

	reseals    int      // records that were under an older key at the start
	unreadable [][]byte // keys of records that were left out at the start, with AcceptLoss

	life    sync.Mutex
	closed  bool
	calls   sync.WaitGroup // calls that use the database
	stop    chan struct{}
	workers sync.WaitGroup // background goroutines
	done    chan struct{}  // the committer has ended
	failure atomic.Pointer[messages.Error]
	full    atomic.Pointer[messages.Error]
	free    atomic.Uint64

	metrics *metrics
}

var errClosed = messages.Errorf(messages.CodeUnavailable, "store_closed", "the store is closed")

// enter announces a call, so that Close waits for it. The caller calls leave.
func (s *Store) enter(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.life.Lock()
	defer s.life.Unlock()
	if s.closed {
		return errClosed
	}
	s.calls.Add(1)
	return nil
}

func (s *Store) leave() { s.calls.Done() }

// Ready says why the store takes no writes at present; nil if it does.
func (s *Store) Ready() error {
	if err := s.failure.Load(); err != nil {
		return err
	}
	if err := s.full.Load(); err != nil {
		return err
	}
	return nil
}

// fail makes the store refuse all writes from now on.
func (s *Store) fail(err error) {
	e := messages.Errorf(messages.CodeUnavailable, "store_failed", "the store can't write any more and must be restarted: %w", err)
	e.Cause = nil
	if !s.failure.CompareAndSwap(nil, e) {
		return
	}
	s.metrics.failures.Inc()
	s.log.Error("store failed; no write is accepted any more", "err", err, "folder", s.cfg.Dir)
	if s.cfg.OnFailure != nil {
		go s.cfg.OnFailure(e)
	}
}

// damaged is the error for a record that was acknowledged and is not there, or not as it was written.
func damaged(key []byte, problem any) error {
	return messages.Errorf(messages.CodeInternal, "store_damaged",
		"the store is damaged: %s can't be read (%v). Stop the server, keep a copy of the folder, check the disk and restore a backup", nameOf(key), problem)
}

// request is a write that waits for the committer.
type request struct {
	ctx   context.Context
	op    operation
	since time.Time
	err   error
	done  chan struct{}
}

// submit hands an operation to the committer and waits until it is durable or refused. If ctx ends first the outcome is unknown.
func (s *Store) submit(ctx context.Context, op operation) error {
	if err := s.enter(ctx); err != nil {
		return err
	}
	defer s.leave()
	if e := s.failure.Load(); e != nil {
		return e
	}
	if e := s.full.Load(); e != nil && !op.frees() {
		return e
	}
	r := &request{ctx: ctx, op: op, since: time.Now(), done: make(chan struct{})}
	select {
	case s.queue <- r:
	case <-ctx.Done():
		return fmt.Errorf("store: too busy, nothing was written: %w", ctx.Err())
	}
	select {
	case <-r.done:
		return r.err
	case <-ctx.Done():
	}
	select {
	case <-r.done:
		return r.err
	default:
		return fmt.Errorf("store: it is not known whether this was written: %w", ctx.Err())
	}
}

// Close ends the store: calls that are under way end first. Closing again does nothing.
func (s *Store) Close() error {
	s.life.Lock()
	if s.closed {
		s.life.Unlock()
		<-s.done
		return nil
	}
	s.closed = true
	s.life.Unlock()
	s.calls.Wait()
	close(s.stop)
	s.workers.Wait()
	<-s.done
	return s.shut()
}

func (s *Store) shut() error {
	s.metrics.unregister(s.cfg.Metrics)
	closed := make(chan error, 1)
	go func() { closed <- s.db.Close() }()
	var err error
	if s.failure.Load() == nil {
		err = errors.Join(s.mark.sync(), <-closed)
	} else {
		// Badger retries for ever what the disk refuses.
		t := time.NewTimer(closeTimeout)
		defer t.Stop()
		select {
		case err = <-closed:
		case <-t.C:
			err = errors.New("the database does not close")
		}
	}
	if err = errors.Join(err, s.mark.f.Close()); err != nil {
		return fmt.Errorf("close the store: %w", err)
	}
	return nil
}
