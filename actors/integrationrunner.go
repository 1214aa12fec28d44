package actors

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"lorikeet/messages"
)

const (
	integrationStopGrace  = 5 * time.Second  // for deliveries under way at a stop
	integrationStoreRetry = time.Second      // after an error of the log
	integrationPoll       = 30 * time.Second // in case a watch signal was missed
	integrationReadBatch  = 64
	integrationErrorText  = 1 << 10
	// integrationCaughtUp: who was at the end of the log this recently has lost nothing, since nothing leaves the log so young.
	integrationCaughtUp = 5 * time.Second
	// integrationNoPlace is saved for a deleted integration: one that is made anew under its name begins with the events from then on.
	integrationNoPlace = math.MaxInt64
)

func (c IntegrationsConfig) withDefaults() IntegrationsConfig {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Random == nil {
		c.Random = rand.Float64
	}
	if c.SaveEvery == 0 {
		c.SaveEvery = 200 * time.Millisecond
	}
	return c
}

func (c IntegrationsConfig) limits(concurrency int) integrationLimits {
	l := defaultIntegrationLimits()
	set := func(to *time.Duration, v time.Duration) {
		if v > 0 {
			*to = v
		}
	}
	set(&l.BackoffCap, c.BackoffCap)
	set(&l.GiveUpAge, c.GiveUpAge)
	set(&l.OutageCap, c.outageCap)
	set(&l.DeliveryTimeout, c.deliverTime)
	l.OutageCap = min(l.OutageCap, l.BackoffCap)
	if concurrency > 0 {
		l.Concurrency = concurrency
	}
	return l
}

// integrationRunner carries one integration over the log: the shell around integrationQueue.
type integrationRunner struct {
	key     string
	cfg     IntegrationConfig
	limits  integrationLimits
	all     IntegrationsConfig
	build   func() (Integration, error)
	log     IntegrationLog
	metrics *integrationMetrics
	memory  *integrationMemory
	dead    *deadLetters // nil: they are only counted
	logger  *slog.Logger

	replay    *integrationReplay // where to begin instead of the saved place; nil: there
	wants     atomic.Pointer[func(messages.EventType) bool]
	connected atomic.Pointer[ConnectedIntegration]

	after     <-chan struct{} // the former runner of this key; nil if there was none
	startOnce sync.Once
	stopOnce  sync.Once
	stopping  chan struct{}
	done      chan struct{}
	ctx       context.Context // of deliveries and reads
	cancel    context.CancelFunc
	forget    atomic.Bool // delete the cursor at the end
	recalled  bool        // the status is that of the former process or node, and remembered

	mu     sync.Mutex
	status IntegrationStatus
}

func newIntegrationRunner(key string, cfg IntegrationConfig, build func() (Integration, error), m *Integrations, memory *integrationMemory, after <-chan struct{}) *integrationRunner {
	all := m.cfg
	r := &integrationRunner{
		key: key, cfg: cfg, limits: all.limits(cfg.Concurrency), all: all, build: build, log: m.log, metrics: m.metrics, memory: memory, dead: newDeadLetters(all, cfg), after: after,
		logger: all.Logger.With("integration", key), stopping: make(chan struct{}), done: make(chan struct{}), status: IntegrationStatus{State: IntegrationStarting},
	}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	return r
}

func (r *integrationRunner) start() { r.startOnce.Do(func() { go r.run() }) }

// stop asks the runner to end; done is closed when it has.
func (r *integrationRunner) stop() {
	r.start() // if it never was, run settles that
	r.stopOnce.Do(func() {
		close(r.stopping)
		grace := time.AfterFunc(integrationStopGrace, r.cancel)
		go func() {
			<-r.done
			grace.Stop()
		}()
	})
}

func (r *integrationRunner) run() {
	defer close(r.done)
	defer r.cancel()
	if r.after != nil {
		<-r.after
	}
	r.serveUntilStopped()
	r.setState(IntegrationStopped)
	if r.forget.Load() {
		if err := r.save(integrationNoPlace); err != nil {
			r.logger.Warn("could not forget the place of a deleted integration", "err", err)
		}
		if err := r.forgetDeadLetters(); err != nil {
			r.logger.Warn("dead letters of a deleted integration are left, and shown to nobody", "err", err)
		}
		if err := r.forgetHistory(); err != nil {
			r.logger.Warn("what was delivered of a deleted integration is left, and shown to nobody", "err", err)
		}
		r.metrics.remove(r.cfg)
	}
}

// serveUntilStopped survives a panic below it: it begins again at the last saved place.
func (r *integrationRunner) serveUntilStopped() {
	cursor, err := r.place()
	if err != nil || !r.recall() {
		return
	}
	integration, err := r.buildSafely()
	if err != nil {
		r.logger.Warn("the integration can not work as it is configured", "err", err)
		r.update(func(s *IntegrationStatus) {
			s.State, s.Cursor, s.LastError = IntegrationInvalid, cursor, integrationErrorString(err)
		})
		<-r.stopping
		return
	}
	wants := integration.Wants
	r.wants.Store(&wants)
	if c, ok := integration.(ConnectedIntegration); ok {
		r.connected.Store(&c)
	}
	defer func() {
		r.connected.Store(nil)
		if err := integration.Close(); err != nil {
			r.logger.Debug("close integration", "err", err)
		}
	}()
	for {
		err := r.serve(integration, &cursor)
		if err == nil {
			return
		}
		r.logger.Error("the integration failed inside and begins again at its last place", "err", err)
		if r.sleep(integrationStoreRetry) != nil {
			return
		}
	}
}

func (r *integrationRunner) buildSafely() (i Integration, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	return r.build()
}

// place finds where to go on, and makes the place of a new integration durable before its first event.
func (r *integrationRunner) place() (uint64, error) {
	began := r.all.Now()
	for {
		cursor, err := r.tryPlace(r.all.Now().Sub(began) >= r.all.ReplicaPatience)
		if err == nil {
			r.update(func(s *IntegrationStatus) { s.Cursor = cursor })
			return cursor, nil
		}
		r.logger.Warn("can not read the place in the log; trying again", "err", err)
		if err := r.sleep(integrationStoreRetry); err != nil {
			return 0, err
		}
	}
}

var errReplicaBehind = errors.New("the place is beyond the end of the log, which may be that of a replica that is behind")

// tryPlace believes in a place beyond the end of the log only if sure.
func (r *integrationRunner) tryPlace(sure bool) (uint64, error) {
	if p := r.replay; p != nil {
		if err := r.save(p.cursor); err != nil {
			return 0, fmt.Errorf("save the place of a replay: %w", err)
		}
		r.replay = nil
		close(p.saved)
		return p.cursor, nil
	}
	cursor, ok, err := r.log.LoadCursor(r.ctx, r.key)
	if err != nil {
		return 0, fmt.Errorf("load cursor: %w", err)
	}
	_, last, err := r.log.LogRange(r.ctx, r.cfg.Application)
	if err != nil {
		return 0, fmt.Errorf("range of the log: %w", err)
	}
	if ok && cursor <= last {
		return cursor, nil
	}
	if ok && cursor != integrationNoPlace {
		if !sure {
			return 0, errReplicaBehind
		}
		r.logger.Warn("the place is beyond the end of the log, as after a restored backup: starting at the creation of the integration", "cursor", cursor, "last", last)
	}
	cursor, err = integrationStartAt(r.ctx, r.log, r.cfg.Application, r.cfg.Created)
	if err != nil {
		return 0, fmt.Errorf("find the start in the log: %w", err)
	}
	return cursor, r.save(cursor)
}

// sleep waits, or returns an error if the runner is to stop.
func (r *integrationRunner) sleep(d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-r.stopping:
		return errIntegrationStopped
	}
}

func (r *integrationRunner) save(cursor uint64) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.ctx), 5*time.Second) // also at a stop
	defer cancel()
	return r.log.SaveCursor(ctx, r.key, cursor)
}

func (r *integrationRunner) setState(state IntegrationState) {
	r.update(func(s *IntegrationStatus) { s.State = state })
}

func (r *integrationRunner) update(change func(*IntegrationStatus)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change(&r.status)
}

// statusNow completes the status with what the log says.
func (r *integrationRunner) statusNow(ctx context.Context) IntegrationStatus {
	r.mu.Lock()
	s := r.status
	r.mu.Unlock()
	s.Delivered, s.Failed, s.DeadLetters, s.Lost = r.memory.counts()
	s.DeadLettersKept, s.Redriving = r.dead.count(ctx, r.memory), s.Redriving+r.memory.waiting()
	if c := r.connected.Load(); c != nil {
		connection := (*c).Connection()
		s.Connection = &connection
	}
	s.Lag, s.OldestAge = r.lagBehind(ctx, s.Cursor)
	return s
}

// lagBehind is how many entries of the log follow a place, and how old the first of them is; zero if that can't be read.
func (r *integrationRunner) lagBehind(ctx context.Context, cursor uint64) (lag uint64, oldest time.Duration) {
	lag, err := r.log.CountLog(ctx, r.cfg.Application, cursor, math.MaxUint64)
	if err != nil || lag == 0 {
		return 0, 0
	}
	if entries, err := r.log.ReadLog(ctx, r.cfg.Application, cursor, 1); err == nil && len(entries) > 0 {
		oldest = max(r.all.Now().Sub(entries[0].Time), 0)
	}
	return lag, oldest
}

// integrationErrorString bounds the text of an error for people.
func integrationErrorString(err error) string {
	if err == nil {
		return ""
	}
	if errors.Is(err, context.DeadlineExceeded) && err.Error() == context.DeadlineExceeded.Error() {
		return "no answer in time"
	}
	text := err.Error()
	if len(text) > integrationErrorText {
		text = text[:integrationErrorText]
	}
	return strings.ToValidUTF8(text, "?")
}
