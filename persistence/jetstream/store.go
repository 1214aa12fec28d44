package jetstream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	js "github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"lorikeet/messages"
	"lorikeet/persistence"
)

// Config says where and how to store. Conn and Sealer are required.
type Config struct {
	Conn   *nats.Conn          // made by Connect; the caller closes it after the store
	Sealer *persistence.Sealer // seals session records, directory entries and documents that hold secrets

	Domain    string // of JetStream, where it is reached through a leaf node; "": that of the server
	Namespace string // begins the names of all streams and subjects: lower-case letters, digits and dashes; "": lorikeet
	Replicas  int    // of each stream: 1, 3 or 5; 0: as the streams are, 1 for new ones
	Journals  int    // streams that the applications are spread over; decided when the store is made. 0: 8
	Identity  string // of the store that it must be, see Store.Identity; "": any, or a new one

	Retention time.Duration // log entries older than this are removed; 0: 7 days, negative: never
	Logger    *slog.Logger  // nil: none
	Metrics   prometheus.Registerer
	Now       func() time.Time // for the retention; nil: time.Now

	missingFor time.Duration // see defaultMissingFor
}

const (
	defaultRetention = 7 * 24 * time.Hour
	healthEvery      = 3 * time.Second
	// defaultMissingFor is how long a stream that should be there must be missing to be taken for lost: a NATS server that starts or takes a stream over
	// may say for a moment that it is not there.
	defaultMissingFor = 10 * time.Second
)

// Store keeps sessions, the registry, logs, cursors and the directory in a NATS cluster. All its methods may be called concurrently. What is given to
// a write must not be changed afterwards, not even after the call gave up: it may still be on its way.
type Store struct {
	cfg     Config
	log     *slog.Logger
	nc      *nats.Conn
	js      js.JetStream
	api     string   // prefix of the subjects of JetStream's API
	windows sync.Map // of send, by stream
	names   names
	metrics *metrics

	identity string // set by Open

	ctx    context.Context // of everything in the background
	cancel context.CancelFunc

	life    sync.Mutex
	closed  bool
	calls   sync.WaitGroup
	workers sync.WaitGroup
	health  atomic.Pointer[messages.Error]

	appsMu sync.Mutex
	apps   map[string]*appLog
	rings  atomic.Int64 // bytes in the rings of all applications

	keepMu sync.Mutex
	keep   map[string]messages.Retention // of applications that want less than Config.Retention

	backMu sync.Mutex
	backs  []*backReader // that nobody uses at present, the last used last

	curMu   sync.Mutex
	cursors map[string]uint64 // sequence of the last message of a cursor that was saved here

	reseals resealQueue

	docs     *docKeys
	feedsMu  sync.Mutex
	docFeeds map[*progress]struct{}
}

var (
	errClosed           = messages.Errorf(messages.CodeUnavailable, "store_closed", "the store is closed")
	errConnectionClosed = messages.Errorf(messages.CodeUnavailable, "store_closed", "the connection to NATS is closed")
)

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

// work runs something in the background until it returns or the store closes. It does nothing on a closed store.
func (s *Store) work(f func(ctx context.Context)) {
	s.life.Lock()
	defer s.life.Unlock()
	if !s.closed {
		s.workers.Go(func() { f(s.ctx) })
	}
}

// Ready says why the store takes no writes at present; nil if it does.
func (s *Store) Ready() error {
	if !s.nc.IsConnected() {
		return messages.Errorf(messages.CodeUnavailable, "store_unavailable", "not connected to NATS: check that its servers are up and reachable")
	}
	if e := s.health.Load(); e != nil {
		return e
	}
	return nil
}

// watchHealth asks the leader of every stream now and then.
func (s *Store) watchHealth(ctx context.Context) {
	t := time.NewTicker(healthEvery)
	defer t.Stop()
	for {
		select {
		case <-t.C:
		case <-ctx.Done():
			return
		}
		s.checkHealth(ctx)
	}
}

func (s *Store) checkHealth(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, readTime)
	defer cancel()
	for _, stream := range s.streams() {
		if _, err := s.state(ctx, stream); err != nil {
			e := messages.Errorf(messages.CodeUnavailable, "store_unavailable", "stream %s has no leader: check that a majority of the NATS servers is up", stream)
			var api *apiError
			if errors.As(err, &api) && api.ErrCode == codeNoStream {
				e = messages.Errorf(messages.CodeUnavailable, "stream_missing", "stream %s is gone: it was deleted, or the NATS servers have lost it. Restore it from a backup", stream)
			}
			if s.health.Swap(e) == nil && s.ctx.Err() == nil {
				s.log.Error("a stream of the store does not answer", "stream", stream, "err", e)
			}
			return
		}
	}
	if s.health.Swap(nil) != nil {
		s.log.Info("all streams of the store answer again")
	}
}

func (s *Store) streams() []string {
	all := []string{s.names.registry(), s.names.cursors(), s.names.directory()}
	for i := range s.names.journals {
		all = append(all, s.names.journal(i))
	}
	return all
}

// damaged is the error for a message that is not as it was written.
func damaged(m *stored, problem error) error {
	return messages.Errorf(messages.CodeInternal, "store_damaged",
		"the store is damaged: message %d (%s) can't be read (%v). If nodes of several versions are running, update all of them; else restore a backup of the streams", m.seq, m.subject, problem)
}

// Close ends the store: calls that are under way end first. The connection stays open. Closing again does nothing.
func (s *Store) Close() error {
	s.life.Lock()
	if s.closed {
		s.life.Unlock()
		return nil
	}
	s.closed = true
	s.life.Unlock()
	s.calls.Wait()
	s.cancel()
	s.workers.Wait()
	s.metrics.unregister(s.cfg.Metrics)
	return nil
}

// background gives a context that also ends when the store closes.
func (s *Store) background(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(s.ctx, cancel)
	return ctx, func() { stop(); cancel() }
}

var errNoConn = errors.New("open the store: Conn and Sealer are needed")

func (c Config) complete() (Config, error) {
	if c.Conn == nil || c.Sealer == nil {
		return c, errNoConn
	}
	if c.Namespace == "" {
		c.Namespace = "lorikeet"
	}
	if !namespacePattern.MatchString(c.Namespace) {
		return c, fmt.Errorf("open the store: namespace %q: use up to 32 lower-case letters, digits and dashes", c.Namespace)
	}
	if c.Replicas < 0 || c.Replicas > 5 || c.Replicas > 0 && c.Replicas%2 == 0 {
		return c, fmt.Errorf("open the store: %d replicas: use 1, 3 or 5", c.Replicas)
	}
	if c.Journals == 0 {
		c.Journals = 8
	}
	if c.missingFor == 0 {
		c.missingFor = defaultMissingFor
	}
	if c.Journals < 1 || c.Journals > 256 {
		return c, fmt.Errorf("open the store: %d journals: use 1 to 256", c.Journals)
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Retention == 0 {
		c.Retention = defaultRetention
	}
	return c, nil
}
