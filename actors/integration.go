package actors

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/prometheus/client_golang/prometheus"

	"lorikeet/messages"
)

// Integration takes the events of one application to another system. Order, retries, concurrency and the place in the log are not its business.
type Integration interface {
	// Deliver returns nil once the other system has the event. It is called at once for several devices, never twice at once for one device,
	// and gives up when ctx ends. An error that wraps messages.ErrPermanent says that a retry can't help; if such an error also has
	// Tries() int, it is believed only after that many tries; one with OfEndpoint() bool that is true, only once other events have passed since the
	// first of these tries. An error with RetryAfter() time.Duration puts the next try off.
	// The text of the error is shown to the owner of the application: no secrets.
	Deliver(ctx context.Context, e messages.LogEntry) error
	// Wants says whether events of the type are to be delivered. It must not block.
	Wants(t messages.EventType) bool
	// Close releases what Deliver uses. It is called once, when no Deliver is running.
	Close() error
}

// BatchIntegration is an Integration that can take several events at once and knows the HTTP status of the answer.
type BatchIntegration interface {
	Integration
	// Batch says how many events one request takes at most (1: no batches), and how long one that is not full waits.
	Batch() (events int, wait time.Duration)
	// BatchKey is the same for events that may share a request.
	BatchKey(e messages.LogEntry) string
	// DeliverBatch is Deliver for events with one BatchKey, of one device in their order: the other system has all of them or none. A request of
	// several that is refused for good is repeated with each of them alone. status is 0 if there was no answer.
	DeliverBatch(ctx context.Context, entries []messages.LogEntry) (status int, err error)
}

// ConnectedIntegration is an Integration that keeps a connection.
type ConnectedIntegration interface {
	// Connection must not block.
	Connection() messages.ConnectionState
}

// IntegrationLog is the durable log of the applications, and the places of the integrations in it.
type IntegrationLog interface {
	// ReadLog gives up to max entries with Seq above after, in order; none at the end of the log.
	ReadLog(ctx context.Context, app string, after uint64, max int) ([]messages.LogEntry, error)
	// LogRange gives bounds of the Seqs that the log holds: all entries below first are gone, and all that come have more than last.
	// If it holds none, first is last+1.
	LogRange(ctx context.Context, app string) (first, last uint64, err error)
	// CountLog gives the number of entries with after < Seq ≤ upTo, far from the end of the log by estimate.
	CountLog(ctx context.Context, app string, after, upTo uint64) (uint64, error)
	// WatchLog gives a channel that receives after each append (several may be one), until the returned function is called.
	WatchLog(app string) (<-chan struct{}, func())
	LoadCursor(ctx context.Context, name string) (uint64, bool, error)
	// SaveCursor is durable when it returns.
	SaveCursor(ctx context.Context, name string, seq uint64) error
}

// IntegrationConfig is what the actor must know of an integration beside how to deliver.
type IntegrationConfig struct {
	Application string
	Kind        string    // "webhook", "nats" or "mqtt"; a metric label
	ID          string    // of the webhook or pub/sub integration
	Created     time.Time // a new integration begins with the first event of this time or later; zero: at the end of the log
	Paused      bool      // events wait in the log
	Concurrency int       // devices served at once; 0 = 16
}

// IntegrationState says what an integration is doing.
type IntegrationState string

const (
	IntegrationStarting IntegrationState = "starting"
	IntegrationRunning  IntegrationState = "running"
	IntegrationPaused   IntegrationState = "paused"
	IntegrationOpen     IntegrationState = "open"    // the circuit is open: nothing got through for many tries, only probes are sent
	IntegrationInvalid  IntegrationState = "invalid" // its configuration can't work; LastError says why
	IntegrationStopped  IntegrationState = "stopped"
)

// IntegrationStatus is a view of an integration at one moment. Counts are since it was made.
type IntegrationStatus struct {
	State           IntegrationState
	Cursor          uint64        // everything up to here is settled
	Lag             uint64        // entries of the log after Cursor, by estimate if they are many
	OldestAge       time.Duration // of the first entry after Cursor; 0 if there is none
	Delivered       uint64
	Failed          uint64 // tries that failed
	DeadLetters     uint64 // events given up
	Lost            uint64 // events that the log dropped before they were delivered; in a store whose Seqs have gaps, how often that happened
	DeadLettersKept int    // that can be listed
	FailedAttempts  uint64 // in a row, under this configuration
	LastError       string // at most 1 KiB
	LastStatus      int    // of HTTP
	LastFailedAt    time.Time
	LastDeliveredAt time.Time
	NextTryAt       time.Time                 // of what failed; zero if nothing has
	Redriving       int                       // dead letters that are under way again
	Connection      *messages.ConnectionState // nil: it keeps none
}

// IntegrationsConfig of NewIntegrations. All fields are optional.
type IntegrationsConfig struct {
	Logger     *slog.Logger
	Metrics    prometheus.Registerer
	BackoffCap time.Duration // longest wait between two tries of one event; 0 = 15 minutes
	GiveUpAge  time.Duration // age at which an event that alone keeps failing is given up; 0 = 72 hours
	// ReplicaPatience is how long the end of the log may seem to lie before a place that was reached, as when a replica is behind after an election.
	// Only after that the log is taken to be older than the place, as after a restored backup. 0: at once.
	ReplicaPatience time.Duration
	// Documents keep dead letters and what is remembered over restarts; nil: they are only counted, and nothing is.
	Documents DocumentStore
	// Notify hears of tries that failed, of each integration at most once a second. It must not block; nil: nobody does.
	Notify      func(messages.DeliveryNotice)
	SaveEvery   time.Duration    // a cursor is saved no more often than this; 0 = 200 ms
	Now         func() time.Time // nil = time.Now
	Random      func() float64   // in [0,1); nil = math/rand/v2
	outageCap   time.Duration
	deliverTime time.Duration
}

// Integrations starts, replaces and stops the integration actors of this node. Its methods may be called at once.
type Integrations struct {
	root    *actor.RootContext
	log     IntegrationLog
	cfg     IntegrationsConfig
	metrics *integrationMetrics

	mu      sync.Mutex
	stopped bool
	running map[string]*integrationHandle
	tails   map[string]<-chan struct{} // closed when the last actor of a key has ended
	memory  map[string]*integrationMemory
}

type integrationHandle struct {
	pid    *actor.PID
	runner *integrationRunner
}

// NewIntegrations makes a manager without integrations.
func NewIntegrations(root *actor.RootContext, log IntegrationLog, cfg IntegrationsConfig) *Integrations {
	m := &Integrations{root: root, log: log, cfg: cfg.withDefaults(), running: map[string]*integrationHandle{}, tails: map[string]<-chan struct{}{}, memory: map[string]*integrationMemory{}}
	m.metrics = newIntegrationMetrics(cfg.Metrics, m)
	return m
}

// Set starts the integration of key, or replaces it; it returns at once. key is also the name of its cursor ("app/webhook/id"), so it must not
// change over restarts. The former integration of the key finishes what it is delivering before build is called. If build fails, the
// integration is IntegrationInvalid until the next Set: its events wait in the log.
func (m *Integrations) Set(key string, cfg IntegrationConfig, build func() (Integration, error)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.stopped {
		return
	}
	m.setLocked(key, cfg, build, nil)
}

func (m *Integrations) setLocked(key string, cfg IntegrationConfig, build func() (Integration, error), replay *integrationReplay) {
	m.stopLocked(key, false)
	if m.memory[key] == nil {
		m.memory[key] = newIntegrationMemory()
	}
	r := newIntegrationRunner(key, cfg, build, m, m.memory[key], m.tails[key])
	r.replay = replay
	pid := m.root.SpawnPrefix(actor.PropsFromProducer(func() actor.Actor { return &integrationActor{runner: r} }), "integration")
	m.running[key] = &integrationHandle{pid: pid, runner: r}
	m.tails[key] = r.done
}

// Remove stops the integration of key and forgets its place in the log: it was deleted. It returns at once.
func (m *Integrations) Remove(key string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.stopLocked(key, true)
	delete(m.memory, key)
	done := m.tails[key]
	if done == nil {
		return
	}
	go func() {
		<-done
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.tails[key] == done {
			delete(m.tails, key)
		}
	}()
}

// Release stops the integration of key, which goes on at another node, and returns when its place is saved or ctx ends.
func (m *Integrations) Release(ctx context.Context, key string) error {
	m.mu.Lock()
	m.stopLocked(key, false)
	delete(m.memory, key)
	done := m.tails[key]
	m.mu.Unlock()
	if done == nil {
		return nil
	}
	select {
	case <-done:
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.tails[key] == done {
			delete(m.tails, key)
		}
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (m *Integrations) stopLocked(key string, forget bool) {
	h := m.running[key]
	if h == nil {
		return
	}
	delete(m.running, key)
	if forget {
		h.runner.forget.Store(true)
	}
	m.root.Stop(h.pid)
}

// Stop ends all integrations. Deliveries under way may finish until ctx ends, then they are broken off. It returns when all cursors are saved.
func (m *Integrations) Stop(ctx context.Context) error {
	m.mu.Lock()
	m.stopped = true
	handles := m.running
	m.running = map[string]*integrationHandle{}
	tails := m.tails
	m.tails = map[string]<-chan struct{}{}
	m.mu.Unlock()
	for _, h := range handles {
		m.root.Stop(h.pid)
	}
	for _, done := range tails {
		select {
		case <-done:
			continue
		case <-ctx.Done():
		}
		for _, h := range handles {
			h.runner.cancel()
		}
		<-done
	}
	m.metrics.unregister()
	return ctx.Err()
}

// Status of the integration of key; ok is false if there is none here.
func (m *Integrations) Status(ctx context.Context, key string) (status IntegrationStatus, ok bool) {
	m.mu.Lock()
	h := m.running[key]
	m.mu.Unlock()
	if h == nil {
		return IntegrationStatus{}, false
	}
	return h.runner.statusNow(ctx), true
}

// Lags says how far the integrations of this node are behind, those that are furthest first, most of them at most. When ctx ends the rest is left out.
func (m *Integrations) Lags(ctx context.Context, most int) []messages.IntegrationLag {
	out := []messages.IntegrationLag{}
	for _, r := range m.runners() {
		r.mu.Lock()
		state, cursor := r.status.State, r.status.Cursor
		r.mu.Unlock()
		lag, oldest := r.lagBehind(ctx, cursor)
		if ctx.Err() != nil {
			break
		}
		out = append(out, messages.IntegrationLag{Kind: r.cfg.Kind, ApplicationID: r.cfg.Application, ID: r.cfg.ID, State: string(state), Lag: lag, OldestAge: oldest.Seconds()})
	}
	slices.SortFunc(out, func(a, b messages.IntegrationLag) int {
		return cmp.Or(cmp.Compare(b.Lag, a.Lag), cmp.Compare(a.ApplicationID, b.ApplicationID), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.ID, b.ID))
	})
	return out[:min(len(out), most)]
}

func (m *Integrations) runners() []*integrationRunner {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := make([]*integrationRunner, 0, len(m.running))
	for _, h := range m.running {
		out = append(out, h.runner)
	}
	return out
}

// integrationActor gives an integration its place among the actors. The work is done by the runner, which never blocks the mailbox.
type integrationActor struct{ runner *integrationRunner }

func (a *integrationActor) Receive(c actor.Context) {
	switch c.Message().(type) {
	case *actor.Started:
		a.runner.start()
	case *actor.Stopping:
		a.runner.stop()
	}
}

// integrationStartAt finds the place after which a new integration begins: before the first entry of the log at or after created.
// Entries are in the order of their times but for fractions of a second, so a binary search finds it.
func integrationStartAt(ctx context.Context, log IntegrationLog, app string, created time.Time) (uint64, error) {
	first, last, err := log.LogRange(ctx, app)
	if err != nil || created.IsZero() || last < first {
		return last, err
	}
	low, high := max(first, 1), last+1 // the answer is in [low, high]
	for low < high {
		mid := low + (high-low)/2
		entries, err := log.ReadLog(ctx, app, mid-1, 1)
		if err != nil {
			return 0, err
		}
		if len(entries) > 0 && entries[0].Time.Before(created) {
			low = entries[0].Seq + 1
		} else {
			high = mid
		}
	}
	return low - 1, nil
}

// errIntegrationStopped ends the waits of a runner.
var errIntegrationStopped = errors.New("stopped")
