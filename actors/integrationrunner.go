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
	logger  *slog.Logger

	after     <-chan struct{} // the former runner of this key; nil if there was none
	startOnce sync.Once
	stopOnce  sync.Once
	stopping  chan struct{}
	done      chan struct{}
	ctx       context.Context // of deliveries and reads
	cancel    context.CancelFunc
	forget    atomic.Bool // delete the cursor at the end

	mu     sync.Mutex
	status IntegrationStatus
}

type integrationResult struct {
	entry   messages.LogEntry
	err     error
	took    time.Duration
	aborted bool // by ourselves
}

func newIntegrationRunner(key string, cfg IntegrationConfig, build func() (Integration, error), log IntegrationLog, all IntegrationsConfig, metrics *integrationMetrics, after <-chan struct{}) *integrationRunner {
	r := &integrationRunner{
		key: key, cfg: cfg, limits: all.limits(cfg.Concurrency), all: all, build: build, log: log, metrics: metrics, after: after,
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
			r.logger.Warn("could not forget the place of a deleted integration", "error", err)
		}
		r.metrics.remove(r.cfg)
	}
}

// serveUntilStopped survives a panic below it: it begins again at the last saved place.
func (r *integrationRunner) serveUntilStopped() {
	cursor, err := r.place()
	if err != nil {
		return
	}
	integration, err := r.buildSafely()
	if err != nil {
		r.logger.Warn("the integration can not work as it is configured", "error", err)
		r.update(func(s *IntegrationStatus) {
			s.State, s.Cursor, s.LastError = IntegrationInvalid, cursor, integrationErrorString(err)
		})
		<-r.stopping
		return
	}
	defer func() {
		if err := integration.Close(); err != nil {
			r.logger.Debug("close integration", "error", err)
		}
	}()
	for {
		err := r.serve(integration, &cursor)
		if err == nil {
			return
		}
		r.logger.Error("the integration failed inside and begins again at its last place", "error", err)
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
		r.logger.Warn("can not read the place in the log; trying again", "error", err)
		if err := r.sleep(integrationStoreRetry); err != nil {
			return 0, err
		}
	}
}

var errReplicaBehind = errors.New("the place is beyond the end of the log, which may be that of a replica that is behind")

// tryPlace believes in a place beyond the end of the log only if sure.
func (r *integrationRunner) tryPlace(sure bool) (uint64, error) {
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

// integrationRun is the state of serve.
type integrationRun struct {
	*integrationRunner
	integration Integration
	queue       *integrationQueue
	results     chan integrationResult
	deliveries  sync.WaitGroup
	ctx         context.Context
	stopped     bool      // nothing new is delivered
	more        bool      // the log may hold entries that were not read
	atEnd       time.Time // when the log had nothing more
	saved       uint64
	savedAt     time.Time
	wake        time.Time
}

// serve delivers until the runner is stopped (nil) or something inside panics. cursor is the place to begin, and at the end the last saved one.
func (r *integrationRunner) serve(integration Integration, cursor *uint64) (err error) {
	ctx, cancel := context.WithCancel(r.ctx)
	s := &integrationRun{
		integrationRunner: r, integration: integration, queue: newIntegrationQueue(r.limits, *cursor), ctx: ctx, more: true, saved: *cursor,
		results: make(chan integrationResult, r.limits.Concurrency),
	}
	watch, unwatch := r.log.WatchLog(r.cfg.Application)
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
		cancel()
		s.deliveries.Wait()
		unwatch()
		*cursor = s.saved
	}()
	timer := time.NewTimer(integrationPoll)
	defer timer.Stop()
	for {
		if s.step(); s.stopped && s.queue.busy == 0 {
			s.saveCursor(true)
			return nil
		}
		timer.Reset(max(s.wake.Sub(r.all.Now()), 0))
		s.await(watch, timer.C)
	}
}

// step reads ahead, hands out what may be delivered, and saves the cursor if that is due. It sets wake.
func (s *integrationRun) step() {
	now := s.all.Now()
	s.wake = now.Add(integrationPoll)
	if !s.stopped && !s.cfg.Paused {
		err := s.readAhead()
		if err == nil {
			err = s.dispatch()
		}
		if err != nil && !s.ended() {
			s.logger.Warn("can not read the log; trying again", "error", err)
			s.wakeAt(now.Add(integrationStoreRetry))
		}
	}
	s.saveCursor(false)
	s.publish()
}

func (s *integrationRun) wakeAt(t time.Time) {
	if !t.IsZero() && t.Before(s.wake) {
		s.wake = t
	}
}

func (s *integrationRun) ended() bool { return s.ctx.Err() != nil }

// readAhead takes one batch of the log into the queue.
func (s *integrationRun) readAhead() error {
	room := min(s.queue.room(), integrationReadBatch)
	if !s.more || room == 0 {
		return nil
	}
	entries, err := s.log.ReadLog(s.ctx, s.cfg.Application, s.queue.read, room)
	if err != nil {
		return err
	}
	if len(entries) == 0 {
		s.more, s.atEnd = false, s.all.Now()
		return nil
	}
	if err := s.checkLost(entries[0].Seq); err != nil {
		return err
	}
	for _, e := range entries {
		s.queue.add(e, s.integration.Wants(e.Type))
	}
	if s.queue.room() > 0 {
		s.wake = s.all.Now()
	}
	return nil
}

// checkLost counts what left the log between the last entry that was read and the next one. Seq may have gaps, so the range of the log is asked.
func (s *integrationRun) checkLost(next uint64) error {
	if next == s.queue.read+1 || s.all.Now().Sub(s.atEnd) < integrationCaughtUp {
		return nil
	}
	first, _, err := s.log.LogRange(s.ctx, s.cfg.Application)
	if err != nil || first <= s.queue.read+1 {
		return err
	}
	if next == first {
		s.lose(first - s.queue.read - 1) // a log without gaps: the number is known
	} else {
		s.lose(1) // at least
	}
	return nil
}

func (s *integrationRun) lose(n uint64) {
	s.logger.Warn("events left the log before they were delivered: deliver sooner or keep them longer", "at_least", n)
	s.metrics.lost.WithLabelValues(s.cfg.Kind, s.cfg.Application, s.cfg.ID).Add(float64(n))
	s.update(func(st *IntegrationStatus) { st.Lost += n })
}

// dispatch starts every delivery that the queue gives.
func (s *integrationRun) dispatch() error {
	for {
		step := s.queue.next(s.all.Now())
		switch {
		case step.Entry != nil:
			s.deliveries.Add(1)
			go s.deliver(*step.Entry)
		case step.Fetch != nil:
			after, count := s.queue.fetchRange(step.Fetch)
			entries, err := s.log.ReadLog(s.ctx, s.cfg.Application, after, count)
			if err != nil {
				return err
			}
			if lost := s.queue.fetched(step.Fetch, entries); lost > 0 {
				s.lose(uint64(lost))
			}
		default:
			s.wakeAt(step.Wake)
			return nil
		}
	}
}

func (s *integrationRun) deliver(e messages.LogEntry) {
	defer s.deliveries.Done()
	start := s.all.Now()
	ctx, cancel := context.WithTimeout(s.ctx, s.limits.DeliveryTimeout)
	err := s.deliverSafely(ctx, e)
	cancel()
	s.results <- integrationResult{entry: e, err: err, took: s.all.Now().Sub(start), aborted: err != nil && s.ended()}
}

func (s *integrationRun) deliverSafely(ctx context.Context, e messages.LogEntry) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic while delivering: %v", p)
		}
	}()
	return s.integration.Deliver(ctx, e)
}

// await waits for something to do.
func (s *integrationRun) await(watch <-chan struct{}, timer <-chan time.Time) {
	stopping := s.stopping
	if s.stopped {
		stopping = nil
	}
	select {
	case <-stopping:
		s.stopped = true
	case _, open := <-watch:
		if !open { // the log ended its watch: the poll goes on
			if s.sleep(integrationStoreRetry) != nil {
				s.stopped = true
			}
		}
		s.more = true
	case res := <-s.results:
		s.settle(res)
		for range len(s.results) {
			s.settle(<-s.results)
		}
	case <-timer:
		s.more = true
	}
}

func (s *integrationRun) settle(res integrationResult) {
	if res.aborted {
		s.queue.requeue(res.entry)
		return
	}
	wasOpen, now := s.queue.open, s.all.Now()
	outcome := s.queue.done(res.entry, now, res.err, s.all.Random())
	labels := []string{s.cfg.Kind, s.cfg.Application, s.cfg.ID}
	if outcome == outcomeDelivered {
		s.metrics.delivered.WithLabelValues(labels...).Inc()
		s.metrics.latency.WithLabelValues(s.cfg.Kind, "delivered").Observe(res.took.Seconds())
		s.update(func(st *IntegrationStatus) { st.Delivered++; st.FailedAttempts = 0; st.LastDeliveredAt = now })
	} else {
		text := integrationErrorString(res.err)
		s.metrics.failed.WithLabelValues(labels...).Inc()
		s.metrics.latency.WithLabelValues(s.cfg.Kind, "failed").Observe(res.took.Seconds())
		s.update(func(st *IntegrationStatus) {
			st.Failed++
			st.FailedAttempts++
			st.LastFailedAt, st.LastError = now, text
		})
		if outcome == outcomeDead {
			s.metrics.dead.WithLabelValues(labels...).Inc()
			s.update(func(st *IntegrationStatus) { st.DeadLetters++ })
			s.logger.Warn("event given up", "event_id", res.entry.ID, "device", res.entry.Device.UID(), "seq", res.entry.Seq, "error", text)
		}
	}
	if s.queue.open != wasOpen {
		s.logger.Warn("circuit changed", "open", s.queue.open, "error", integrationErrorString(res.err))
	}
}

// saveCursor makes the place durable if it moved and the last time is long enough ago (or now is set).
func (s *integrationRun) saveCursor(now bool) {
	at := s.all.Now()
	due := s.savedAt.Add(s.all.SaveEvery)
	if !now && at.Before(due) {
		s.wakeAt(due)
		return
	}
	cursor := s.queue.cursor()
	s.savedAt = at
	if cursor == s.saved {
		return
	}
	if err := s.save(cursor); err != nil {
		s.logger.Warn("could not save the place in the log; trying again", "error", err)
		s.wakeAt(at.Add(integrationStoreRetry))
		return
	}
	s.saved = cursor
	s.update(func(st *IntegrationStatus) { st.Cursor = cursor })
}

func (s *integrationRun) publish() {
	state := IntegrationRunning
	switch {
	case s.cfg.Paused:
		state = IntegrationPaused
	case s.queue.open:
		state = IntegrationOpen
	}
	s.setState(state)
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
	lag, err := r.log.CountLog(ctx, r.cfg.Application, s.Cursor, math.MaxUint64)
	if err != nil || lag == 0 {
		return s
	}
	s.Lag = lag
	if entries, err := r.log.ReadLog(ctx, r.cfg.Application, s.Cursor, 1); err == nil && len(entries) > 0 {
		s.OldestAge = max(r.all.Now().Sub(entries[0].Time), 0)
	}
	return s
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
