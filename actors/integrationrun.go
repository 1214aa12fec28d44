package actors

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"lorikeet/messages"
)

// integrationResult is what became of one request.
type integrationResult struct {
	entries []messages.LogEntry
	status  int // of HTTP; 0: unknown
	err     error
	took    time.Duration
	aborted bool // by ourselves
}

// integrationRun is the state of serve.
type integrationRun struct {
	*integrationRunner
	integration Integration
	batch       BatchIntegration // nil: one event a request
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
	unnoted     []messages.DeadLetter // given up, but not durably noted: the cursor waits for them
	fresh       int                   // of them, so many were none before
	arrived     []messages.DeadLetter // dead letters that were delivered after all
	noteAgain   time.Time             // when to try again to note them

	notifiedAt   time.Time
	changed      bool // there is something to remember
	historyAt    time.Time
	savedHealthy bool // so it was when it was noted last
}

const (
	maxUnnoted  = 1000        // dead letters that may wait for the store before nothing more is delivered
	noticeEvery = time.Second // an endpoint that refuses a thousand events a second is one piece of news
)

// serve delivers until the runner is stopped (nil) or something inside panics. cursor is the place to begin, and at the end the last saved one.
func (r *integrationRunner) serve(integration Integration, cursor *uint64) (err error) {
	ctx, cancel := context.WithCancel(r.ctx)
	s := &integrationRun{
		integrationRunner: r, integration: integration, queue: newIntegrationQueue(r.limits, *cursor), ctx: ctx, more: true, saved: *cursor,
		results: make(chan integrationResult, r.limits.Concurrency), changed: !r.recalled, savedHealthy: true,
	}
	if r.recalled {
		s.savedHealthy = s.healthy()
	}
	if b, ok := integration.(BatchIntegration); ok {
		s.batch = b
		s.queue.limits.BatchEvents, s.queue.limits.BatchWait = b.Batch()
		s.queue.key = b.BatchKey
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
			s.saveHistory(true)
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
	if !s.stopped && !s.cfg.Paused && len(s.unnoted) < maxUnnoted {
		s.takeRedriven()
		err := s.readAhead()
		if err == nil {
			err = s.dispatch()
		}
		if err != nil && !s.ended() {
			s.logger.Warn("can not read the log; trying again", "err", err)
			s.wakeAt(now.Add(integrationStoreRetry))
		}
	}
	s.saveCursor(false)
	s.saveHistory(false)
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
	s.memory.lose(n)
	s.changed = true
}

// dispatch starts every delivery that the queue gives.
func (s *integrationRun) dispatch() error {
	for {
		step := s.queue.next(s.all.Now())
		switch {
		case step.Entry != nil:
			s.deliveries.Add(1)
			go s.deliver(step.Entries)
		case step.Fetch != nil:
			after, count := s.queue.fetchRange(step.Fetch)
			entries, err := s.log.ReadLog(s.ctx, s.cfg.Application, after, count)
			if err != nil {
				return err
			}
			if lost := s.queue.fetched(step.Fetch, entries); lost > 0 && !step.Fetch.again {
				s.lose(uint64(lost))
			}
		default:
			s.wakeAt(step.Wake)
			return nil
		}
	}
}

func (s *integrationRun) deliver(entries []messages.LogEntry) {
	defer s.deliveries.Done()
	start := s.all.Now()
	ctx, cancel := context.WithTimeout(s.ctx, s.limits.DeliveryTimeout)
	status, err := s.deliverSafely(ctx, entries)
	cancel()
	s.results <- integrationResult{entries: entries, status: status, err: err, took: s.all.Now().Sub(start), aborted: err != nil && s.ended()}
}

func (s *integrationRun) deliverSafely(ctx context.Context, entries []messages.LogEntry) (status int, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic while delivering: %v", p)
		}
	}()
	if s.batch != nil {
		return s.batch.DeliverBatch(ctx, entries)
	}
	return 0, s.integration.Deliver(ctx, entries[0])
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
	case <-s.memory.poke: // there are dead letters to drive again
	case <-timer:
		s.more = true
	}
}

// settle draws the consequences of a request that has ended.
func (s *integrationRun) settle(res integrationResult) {
	if res.aborted {
		s.queue.requeue(res.entries...)
		return
	}
	wasOpen, now := s.queue.open, s.all.Now()
	attempts := make([]messages.DeliveryAttempt, len(res.entries))
	for i, e := range res.entries {
		try, again := s.queue.attempt(e)
		attempts[i] = messages.DeliveryAttempt{
			Time: now, EventID: e.ID, DeviceID: e.Device.DeviceID, Type: e.Type, Seq: e.Seq, Latency: res.took.Seconds(), StatusCode: res.status, Try: try, Redriven: again,
		}
		if s.queue.limits.BatchEvents > 1 {
			attempts[i].BatchSize = len(res.entries)
		}
	}
	outcome := s.queue.settle(res.entries, now, res.err, s.all.Random())
	if outcome == outcomeDelivered {
		s.delivered(res, attempts, now)
	} else {
		s.failed(res, attempts, outcome, now)
	}
	s.memory.remember(attempts)
	s.changed = true
	if s.queue.open != wasOpen {
		s.logger.Warn("circuit changed", "open", s.queue.open, "err", integrationErrorString(res.err))
	}
}

func (s *integrationRun) delivered(res integrationResult, attempts []messages.DeliveryAttempt, now time.Time) {
	s.metrics.delivered.WithLabelValues(s.labels()...).Add(float64(len(attempts)))
	s.metrics.latency.WithLabelValues(s.cfg.Kind, "delivered").Observe(res.took.Seconds())
	for i, e := range res.entries {
		attempts[i].Outcome = messages.AttemptDelivered
		if attempts[i].Redriven {
			s.arrived = append(s.arrived, s.dead.letter(e))
		}
	}
	s.update(func(st *IntegrationStatus) { st.FailedAttempts = 0; st.LastDeliveredAt = now })
}

func (s *integrationRun) failed(res integrationResult, attempts []messages.DeliveryAttempt, outcome integrationOutcome, now time.Time) {
	text := integrationErrorString(res.err)
	s.metrics.failed.WithLabelValues(s.labels()...).Inc()
	s.metrics.latency.WithLabelValues(s.cfg.Kind, "failed").Observe(res.took.Seconds())
	s.update(func(st *IntegrationStatus) {
		st.FailedAttempts++
		st.LastFailedAt, st.LastError, st.LastStatus = now, text, res.status
	})
	s.notify(res, text, now)
	for i, e := range res.entries {
		a := &attempts[i]
		a.Error, a.Outcome = text, messages.AttemptFailed
		if outcome == outcomeDead {
			a.Outcome = messages.AttemptDeadLetter
			s.giveUp(e, *a)
		} else if at := s.queue.nextTry(e, a.Redriven); !at.IsZero() {
			a.NextTryAt = &at
		}
	}
}

// notify tells those who watch of a try that failed.
func (s *integrationRun) notify(res integrationResult, text string, now time.Time) {
	if s.all.Notify == nil || now.Sub(s.notifiedAt) < noticeEvery {
		return
	}
	s.notifiedAt = now
	n := messages.DeliveryNotice{
		IntegrationRef: messages.IntegrationRef{Kind: documentKind(s.cfg.Kind), ApplicationID: s.cfg.Application, ID: s.cfg.ID},
		What:           messages.NoticeFailed, Time: now, Error: text, StatusCode: res.status,
	}
	if len(res.entries) == 1 {
		n.DeviceID = res.entries[0].Device.DeviceID
	}
	s.all.Notify(n)
}

// giveUp makes a dead letter of an event. It is noted before the cursor passes it.
func (s *integrationRun) giveUp(e messages.LogEntry, a messages.DeliveryAttempt) {
	s.metrics.dead.WithLabelValues(s.labels()...).Inc()
	s.logger.Warn("event given up", "event_id", e.ID, "device", e.Device.UID(), "seq", e.Seq, "err", a.Error)
	if s.dead == nil {
		return
	}
	d := s.dead.letter(e)
	d.Reason, d.StatusCode, d.Tries, d.GivenUpAt = a.Error, a.StatusCode, a.Try, a.Time
	s.unnoted = append(s.unnoted, d)
	if !a.Redriven {
		s.fresh++
	}
}

func (s *integrationRun) labels() []string {
	return []string{s.cfg.Kind, s.cfg.Application, s.cfg.ID}
}

// takeRedriven takes in the dead letters that someone wants to have delivered after all.
func (s *integrationRun) takeRedriven() {
	for _, d := range s.memory.takeRedrive() {
		if slices.ContainsFunc(s.arrived, func(a messages.DeadLetter) bool { return a.ID == d.ID }) {
			continue // it was delivered since it was listed, but that is not noted yet
		}
		s.queue.redrive(messages.DeviceID{ApplicationID: s.cfg.Application, DeviceID: d.DeviceID}, d.Seq)
	}
}

// noteDead makes durable which events were given up, and which of those were delivered after all. false: not yet.
func (s *integrationRun) noteDead() bool {
	if len(s.unnoted) == 0 && len(s.arrived) == 0 {
		return true
	}
	now := s.all.Now()
	if now.Before(s.noteAgain) {
		s.wakeAt(s.noteAgain)
		return false
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.ctx), 5*time.Second) // also at a stop
	defer cancel()
	if err := s.dead.note(ctx, s.memory, s.unnoted, s.arrived, s.fresh); err != nil {
		s.logger.Warn("could not note the events that were given up; trying again", "err", err)
		s.noteAgain = now.Add(integrationStoreRetry)
		s.wakeAt(s.noteAgain)
		return false
	}
	s.unnoted, s.arrived, s.fresh = nil, nil, 0
	return true
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
	if !s.noteDead() {
		return
	}
	if cursor == s.saved {
		return
	}
	if err := s.save(cursor); err != nil {
		s.logger.Warn("could not save the place in the log; trying again", "err", err)
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
	next, redriving := s.queue.wakes(), s.queue.redriving()
	s.update(func(st *IntegrationStatus) { st.State, st.NextTryAt, st.Redriving = state, next, redriving })
}
