package actors

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"lorikeet/messages"
)

// integrationTestLog is a log in memory.
type integrationTestLog struct {
	mu      sync.Mutex
	first   uint64
	entries []messages.LogEntry
	cursors map[string]uint64
	saves   int
	fail    error
	watches map[chan struct{}]bool
}

func newIntegrationTestLog() *integrationTestLog {
	return &integrationTestLog{first: 1, cursors: map[string]uint64{}, watches: map[chan struct{}]bool{}}
}

func (l *integrationTestLog) append(devices ...int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, d := range devices {
		e := integrationEntry(l.first+uint64(len(l.entries)), d)
		e.Time = time.Now()
		l.entries = append(l.entries, e)
	}
	for c := range l.watches {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}

func (l *integrationTestLog) trim(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.first, l.entries = l.first+uint64(n), l.entries[n:]
}

func (l *integrationTestLog) setFail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fail = err
}

func (l *integrationTestLog) ReadLog(_ context.Context, _ string, after uint64, limit int) ([]messages.LogEntry, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	from := min(max(int(after+1)-int(l.first), 0), len(l.entries))
	return slices.Clone(l.entries[from:min(from+limit, len(l.entries))]), l.fail
}

func (l *integrationTestLog) LogRange(context.Context, string) (uint64, uint64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.first, l.first + uint64(len(l.entries)) - 1, l.fail
}

func (l *integrationTestLog) CountLog(_ context.Context, _ string, after, upTo uint64) (uint64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := uint64(0)
	for _, e := range l.entries {
		if e.Seq > after && e.Seq <= upTo {
			n++
		}
	}
	return n, l.fail
}

func (l *integrationTestLog) WatchLog(string) (<-chan struct{}, func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := make(chan struct{}, 1)
	l.watches[c] = true
	return c, func() { l.mu.Lock(); defer l.mu.Unlock(); delete(l.watches, c) }
}

func (l *integrationTestLog) LoadCursor(_ context.Context, name string) (uint64, bool, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c, ok := l.cursors[name]
	return c, ok, l.fail
}

func (l *integrationTestLog) SaveCursor(_ context.Context, name string, seq uint64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fail == nil {
		l.cursors[name] = seq
		l.saves++
	}
	return l.fail
}

func (l *integrationTestLog) cursor(name string) uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.cursors[name]
}

// sink is another system in a test. deliver may be nil.
type sink struct {
	mu      sync.Mutex
	deliver func(ctx context.Context, e messages.LogEntry) error
	got     []uint64
	tries   int
	closed  int
}

func (s *sink) Deliver(ctx context.Context, e messages.LogEntry) error {
	s.mu.Lock()
	s.tries++
	deliver := s.deliver
	s.mu.Unlock()
	if deliver != nil {
		if err := deliver(ctx, e); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.got = append(s.got, e.Seq)
	return nil
}
func (s *sink) Wants(t messages.EventType) bool { return t == messages.EventUplink }
func (s *sink) Close() error                    { s.mu.Lock(); defer s.mu.Unlock(); s.closed++; return nil }
func (s *sink) set(deliver func(context.Context, messages.LogEntry) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.deliver = deliver
}
func (s *sink) seqs() []uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.got)
}

const integrationTestKey = "app/webhook/hook"

var integrationTestConfig = IntegrationConfig{Application: "app", Kind: "webhook", ID: "hook"}

// integrationTest runs f in a bubble with a manager over log.
func integrationTest(t *testing.T, f func(t *testing.T, m *Integrations, log *integrationTestLog, s *sink)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		system := actor.NewActorSystem(actor.WithLoggerFactory(func(*actor.ActorSystem) *slog.Logger { return slog.New(slog.DiscardHandler) }))
		log := newIntegrationTestLog()
		m := NewIntegrations(system.Root, log, IntegrationsConfig{Random: func() float64 { return .9 }, Metrics: prometheus.NewRegistry()})
		f(t, m, log, &sink{})
		if err := m.Stop(t.Context()); err != nil {
			t.Errorf("stop: %v", err)
		}
		system.Shutdown()
		time.Sleep(2 * time.Minute) // of the bubble's clock: timers of the actor system end
		synctest.Wait()
	})
}

func (s *sink) build() (Integration, error) { return s, nil }

// settleFor lets the bubble's time pass.
func settleFor(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func status(t *testing.T, m *Integrations) IntegrationStatus {
	t.Helper()
	s, ok := m.Status(t.Context(), integrationTestKey)
	if !ok {
		t.Fatal("no such integration")
	}
	return s
}

func TestNewIntegrationStartsAtItsCreation(t *testing.T) {
	integrationTest(t, func(t *testing.T, m *Integrations, log *integrationTestLog, s *sink) {
		log.append(1, 2, 3)
		time.Sleep(time.Minute)
		cfg := integrationTestConfig
		cfg.Created = time.Now()
		log.append(1, 2) // after the creation, before the actor
		m.Set(integrationTestKey, cfg, s.build)
		settleFor(time.Second)
		log.append(3)
		settleFor(time.Second)
		if diff := cmp.Diff([]uint64{4, 5, 6}, sorted(s.seqs())); diff != "" {
			t.Error(diff)
		}
		if got := log.cursor(integrationTestKey); got != 6 {
			t.Errorf("cursor %d, want 6", got)
		}
	})
}

func sorted(s []uint64) []uint64 { slices.Sort(s); return s }

func TestBacklogOfADeadEndpointArrivesInOrderExactlyOnce(t *testing.T) {
	integrationTest(t, func(t *testing.T, m *Integrations, log *integrationTestLog, s *sink) {
		s.set(func(context.Context, messages.LogEntry) error { return errIntegrationTest })
		m.Set(integrationTestKey, integrationTestConfig, s.build)
		settleFor(time.Second)
		for i := range 5000 {
			log.append(i % 50)
		}
		settleFor(time.Hour)
		got := status(t, m)
		if got.State != IntegrationOpen || got.Lag != 5000 || got.LastError != errIntegrationTest.Error() || got.OldestAge < time.Hour || got.FailedAttempts < 10 {
			t.Errorf("status of a dead endpoint: %+v", got)
		}
		if s.tries > 300 {
			t.Errorf("%d tries in an hour", s.tries)
		}
		s.set(nil)
		settleFor(30 * time.Second)
		seqs := s.seqs()
		last := map[uint64]uint64{}
		for _, seq := range seqs {
			device := (seq - 1) % 50
			if seq <= last[device] {
				t.Fatalf("event %d after %d", seq, last[device])
			}
			last[device] = seq
		}
		if len(seqs) != 5000 || log.cursor(integrationTestKey) != 5000 {
			t.Errorf("%d events, cursor %d, want 5000", len(seqs), log.cursor(integrationTestKey))
		}
		if got := status(t, m); got.State != IntegrationRunning || got.Lag != 0 || got.Delivered != 5000 || got.FailedAttempts != 0 {
			t.Errorf("status after recovery: %+v", got)
		}
	})
}

func TestOneBadDeviceDoesNotStopTheOthers(t *testing.T) {
	integrationTest(t, func(t *testing.T, m *Integrations, log *integrationTestLog, s *sink) {
		bad := integrationDevice(0)
		s.set(func(_ context.Context, e messages.LogEntry) error {
			if e.Device == bad {
				return errIntegrationTest
			}
			return nil
		})
		m.Set(integrationTestKey, integrationTestConfig, s.build)
		settleFor(time.Second)
		for range 3000 { // more than the window, all of the bad device
			log.append(0)
		}
		log.append(1, 2, 3)
		settleFor(time.Minute)
		if diff := cmp.Diff([]uint64{3001, 3002, 3003}, sorted(s.seqs())); diff != "" {
			t.Error(diff)
		}
		if got := log.cursor(integrationTestKey); got != 0 {
			t.Errorf("cursor %d passed the failing event", got)
		}
		s.set(nil)
		settleFor(20 * time.Minute)
		if got := status(t, m); got.Cursor != 3003 || got.Delivered != 3003 {
			t.Errorf("after recovery: %+v", got)
		}
	})
}

func TestManyBadDevicesDoNotFillTheWindow(t *testing.T) {
	integrationTest(t, func(t *testing.T, m *Integrations, log *integrationTestLog, s *sink) {
		s.set(func(_ context.Context, e messages.LogEntry) error {
			if e.Seq%2 == 0 {
				return errIntegrationTest
			}
			return nil
		})
		m.Set(integrationTestKey, integrationTestConfig, s.build)
		settleFor(time.Second)
		for i := range 6000 {
			log.append(i)
		}
		settleFor(time.Minute)
		if got := len(s.seqs()); got != 3000 {
			t.Errorf("%d of 3000 events of good devices delivered", got)
		}
	})
}

func TestSlowEndpointDoesNotAffectAnother(t *testing.T) {
	integrationTest(t, func(t *testing.T, m *Integrations, log *integrationTestLog, s *sink) {
		slow := &sink{deliver: func(ctx context.Context, _ messages.LogEntry) error { <-ctx.Done(); return ctx.Err() }}
		m.Set("app/webhook/slow", integrationTestConfig, slow.build)
		m.Set(integrationTestKey, integrationTestConfig, s.build)
		settleFor(time.Second)
		for i := range 500 {
			log.append(i % 20)
		}
		settleFor(time.Second)
		if got := len(s.seqs()); got != 500 {
			t.Errorf("%d of 500 events delivered beside a slow endpoint", got)
		}
		settleFor(40 * time.Second)
		if got, _ := m.Status(t.Context(), "app/webhook/slow"); got.LastError != "no answer in time" {
			t.Errorf("slow endpoint: %+v", got)
		}
	})
}

func TestPauseBuffersInTheLog(t *testing.T) {
	integrationTest(t, func(t *testing.T, m *Integrations, log *integrationTestLog, s *sink) {
		paused := integrationTestConfig
		paused.Paused = true
		m.Set(integrationTestKey, paused, s.build)
		settleFor(time.Second)
		log.append(1, 1, 2)
		settleFor(time.Hour)
		if got := status(t, m); got.State != IntegrationPaused || got.Lag != 3 || s.tries != 0 {
			t.Errorf("paused: %+v, %d tries", got, s.tries)
		}
		m.Set(integrationTestKey, integrationTestConfig, s.build)
		settleFor(time.Second)
		if diff := cmp.Diff([]uint64{1, 2, 3}, sorted(s.seqs())); diff != "" {
			t.Error(diff)
		}
	})
}

func TestRestartGoesOnAtTheCursor(t *testing.T) {
	integrationTest(t, func(t *testing.T, m *Integrations, log *integrationTestLog, s *sink) {
		m.Set(integrationTestKey, integrationTestConfig, s.build)
		settleFor(time.Second)
		log.append(1, 2, 3)
		settleFor(0) // delivered; the replacement comes before the next save is due
		m.Set(integrationTestKey, integrationTestConfig, s.build)
		settleFor(time.Second)
		log.append(1)
		settleFor(time.Second)
		if diff := cmp.Diff([]uint64{1, 2, 3, 4}, sorted(s.seqs())); diff != "" {
			t.Error(diff)
		}
		if s.closed != 1 {
			t.Errorf("closed %d times, want 1", s.closed)
		}
	})
}

func TestReplacementWaitsForTheDeliveryUnderWay(t *testing.T) {
	integrationTest(t, func(t *testing.T, m *Integrations, log *integrationTestLog, s *sink) {
		s.set(func(context.Context, messages.LogEntry) error { time.Sleep(2 * time.Second); return nil })
		m.Set(integrationTestKey, integrationTestConfig, s.build)
		settleFor(time.Second)
		log.append(1, 1)
		settleFor(time.Second)
		next := &sink{}
		m.Set(integrationTestKey, integrationTestConfig, next.build)
		settleFor(10 * time.Second)
		if diff := cmp.Diff([][]uint64{{1}, {2}}, [][]uint64{s.seqs(), next.seqs()}); diff != "" {
			t.Error(diff)
		}
	})
}

func TestRemovedIntegrationForgetsItsPlace(t *testing.T) {
	integrationTest(t, func(t *testing.T, m *Integrations, log *integrationTestLog, s *sink) {
		m.Set(integrationTestKey, integrationTestConfig, s.build)
		settleFor(time.Second)
		log.append(1, 2)
		settleFor(time.Second)
		m.Remove(integrationTestKey)
		if _, ok := m.Status(t.Context(), integrationTestKey); ok {
			t.Error("a removed integration has a status")
		}
		settleFor(time.Second)
		log.append(3)
		settleFor(time.Minute)
		cfg := integrationTestConfig
		cfg.Created = time.Now()
		log.append(4)
		m.Set(integrationTestKey, cfg, s.build)
		settleFor(time.Second)
		if diff := cmp.Diff([]uint64{1, 2, 4}, sorted(s.seqs())); diff != "" {
			t.Error(diff)
		}
	})
}

func TestInvalidIntegrationSaysWhyAndKeepsItsEvents(t *testing.T) {
	integrationTest(t, func(t *testing.T, m *Integrations, log *integrationTestLog, s *sink) {
		m.Set(integrationTestKey, integrationTestConfig, func() (Integration, error) { return nil, errors.New("base_url is not a URL") })
		settleFor(time.Second)
		log.append(1)
		settleFor(time.Second)
		if got := status(t, m); got.State != IntegrationInvalid || got.LastError != "base_url is not a URL" || got.Lag != 1 {
			t.Errorf("%+v", got)
		}
		m.Set(integrationTestKey, integrationTestConfig, func() (Integration, error) { panic("boom") })
		settleFor(time.Second)
		m.Set(integrationTestKey, integrationTestConfig, s.build)
		settleFor(time.Second)
		if diff := cmp.Diff([]uint64{1}, s.seqs()); diff != "" {
			t.Error(diff)
		}
	})
}

func TestPanicOfAnIntegrationIsAFailedTry(t *testing.T) {
	integrationTest(t, func(t *testing.T, m *Integrations, log *integrationTestLog, s *sink) {
		s.set(func(_ context.Context, e messages.LogEntry) error {
			if s.tries == 1 {
				panic(strings.Repeat("x", 5000))
			}
			return nil
		})
		m.Set(integrationTestKey, integrationTestConfig, s.build)
		settleFor(time.Second)
		log.append(1)
		settleFor(time.Minute)
		got := status(t, m)
		if got.Delivered != 1 || got.Failed != 1 || len(got.LastError) != 1024 {
			t.Errorf("delivered %d, failed %d, error of %d bytes", got.Delivered, got.Failed, len(got.LastError))
		}
	})
}

func TestErrorsOfTheLogAreSurvived(t *testing.T) {
	integrationTest(t, func(t *testing.T, m *Integrations, log *integrationTestLog, s *sink) {
		log.setFail(errors.New("disk is gone"))
		m.Set(integrationTestKey, integrationTestConfig, s.build)
		settleFor(10 * time.Second)
		log.setFail(nil)
		settleFor(5 * time.Second)
		log.append(1)
		log.setFail(errors.New("disk is gone"))
		settleFor(10 * time.Second)
		log.setFail(nil)
		settleFor(5 * time.Second)
		if diff := cmp.Diff([]uint64{1}, s.seqs()); diff != "" {
			t.Error(diff)
		}
		if got := log.cursor(integrationTestKey); got != 1 {
			t.Errorf("cursor %d, want 1", got)
		}
	})
}

func TestTrimmedLogIsCountedAsLost(t *testing.T) {
	integrationTest(t, func(t *testing.T, m *Integrations, log *integrationTestLog, s *sink) {
		paused := integrationTestConfig
		paused.Paused = true
		m.Set(integrationTestKey, paused, s.build)
		settleFor(time.Second)
		log.append(1, 1, 1, 1)
		settleFor(time.Second)
		log.trim(3)
		m.Set(integrationTestKey, integrationTestConfig, s.build)
		settleFor(time.Second)
		if got := status(t, m); got.Lost != 3 || got.Delivered != 1 || got.Lag != 0 {
			t.Errorf("%+v", got)
		}
	})
}

// gappedLog is a log whose Seqs have gaps, as that of a cluster.
type gappedLog struct{ *integrationTestLog }

func (l gappedLog) ReadLog(ctx context.Context, app string, after uint64, limit int) ([]messages.LogEntry, error) {
	entries, err := l.integrationTestLog.ReadLog(ctx, app, after>>4, limit)
	for i := range entries {
		entries[i].Seq <<= 4
	}
	return entries, err
}

func (l gappedLog) LogRange(ctx context.Context, app string) (first, last uint64, err error) {
	first, last, err = l.integrationTestLog.LogRange(ctx, app)
	return (first-1)<<4 + 1, last<<4 | 15, err
}

func (l gappedLog) CountLog(ctx context.Context, app string, after, upTo uint64) (uint64, error) {
	return l.integrationTestLog.CountLog(ctx, app, after>>4, upTo>>4)
}

func TestGapsInSeqAreNoLoss(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		system := actor.NewActorSystem(actor.WithLoggerFactory(func(*actor.ActorSystem) *slog.Logger { return slog.New(slog.DiscardHandler) }))
		log, s := newIntegrationTestLog(), &sink{}
		m := NewIntegrations(system.Root, gappedLog{log}, IntegrationsConfig{Random: func() float64 { return .9 }})
		m.Set(integrationTestKey, integrationTestConfig, s.build)
		settleFor(time.Second)
		for i := range 200 {
			log.append(i % 3)
		}
		settleFor(time.Minute)
		log.append(1)
		settleFor(time.Second)
		if got := status(t, m); got.Lost != 0 || got.Delivered != 201 || got.Lag != 0 || got.Cursor != 201<<4 {
			t.Errorf("%+v", got)
		}
		paused := integrationTestConfig
		paused.Paused = true
		m.Set(integrationTestKey, paused, s.build)
		settleFor(time.Second)
		log.append(1, 1, 1, 1)
		settleFor(time.Second)
		if got := status(t, m); got.Lag != 4 {
			t.Errorf("paused: %+v", got)
		}
		log.trim(204) // three of the four
		m.Set(integrationTestKey, integrationTestConfig, s.build)
		settleFor(time.Second)
		if got := status(t, m); got.Lost != 1 || got.Delivered != 202 || got.Lag != 0 {
			t.Errorf("after a loss: %+v", got)
		}
		if err := m.Stop(t.Context()); err != nil {
			t.Errorf("stop: %v", err)
		}
		system.Shutdown()
		time.Sleep(2 * time.Minute) // of the bubble's clock: timers of the actor system end
		synctest.Wait()
	})
}

func TestUnwantedEventsArePassed(t *testing.T) {
	integrationTest(t, func(t *testing.T, m *Integrations, log *integrationTestLog, s *sink) {
		m.Set(integrationTestKey, integrationTestConfig, s.build)
		settleFor(time.Second)
		log.append(1, 2, 3)
		log.mu.Lock()
		log.entries[1].Type = messages.EventJoin
		log.mu.Unlock()
		settleFor(time.Second)
		if diff := cmp.Diff([]uint64{1, 3}, sorted(s.seqs())); diff != "" {
			t.Error(diff)
		}
		if got := log.cursor(integrationTestKey); got != 3 {
			t.Errorf("cursor %d, want 3", got)
		}
	})
}

func TestCursorIsSavedSeldom(t *testing.T) {
	integrationTest(t, func(t *testing.T, m *Integrations, log *integrationTestLog, s *sink) {
		m.Set(integrationTestKey, integrationTestConfig, s.build)
		settleFor(time.Second)
		before := log.saves
		for range 1000 {
			log.append(1)
			settleFor(time.Millisecond)
		}
		settleFor(time.Second)
		if saves := log.saves - before; saves > 7 || log.cursor(integrationTestKey) != 1000 {
			t.Errorf("%d saves in a second, cursor %d", saves, log.cursor(integrationTestKey))
		}
	})
}

func TestStopBreaksOffWhatHangs(t *testing.T) {
	integrationTest(t, func(t *testing.T, m *Integrations, log *integrationTestLog, s *sink) {
		s.set(func(ctx context.Context, _ messages.LogEntry) error { <-ctx.Done(); return ctx.Err() })
		m.Set(integrationTestKey, integrationTestConfig, s.build)
		settleFor(time.Second)
		log.append(1)
		settleFor(time.Second)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		if err := m.Stop(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("stop: %v", err)
		}
		if took := time.Since(start); took > 2*time.Second || log.cursor(integrationTestKey) != 0 || s.closed != 1 {
			t.Errorf("stop took %v, cursor %d, closed %d times", took, log.cursor(integrationTestKey), s.closed)
		}
	})
}

func TestIntegrationMetrics(t *testing.T) {
	integrationTest(t, func(t *testing.T, m *Integrations, log *integrationTestLog, s *sink) {
		s.set(func(_ context.Context, e messages.LogEntry) error {
			if e.Seq == 2 {
				return fmt.Errorf("%w: too large", messages.ErrPermanent)
			}
			return nil
		})
		m.Set(integrationTestKey, integrationTestConfig, s.build)
		settleFor(time.Second)
		log.append(1, 1, 1)
		settleFor(time.Second)
		reg := prometheus.NewRegistry()
		reg.MustRegister(m.metrics)
		families, err := reg.Gather()
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]float64{}
		for _, f := range families {
			for _, metric := range f.Metric {
				got[f.GetName()] += metric.GetCounter().GetValue() + metric.GetGauge().GetValue() + float64(metric.GetHistogram().GetSampleCount())
			}
		}
		want := map[string]float64{
			"lorikeet_integration_dead_letters_total": 1, "lorikeet_integration_delivered_total": 2, "lorikeet_integration_failed_total": 1,
			"lorikeet_integration_delivery_seconds": 3, "lorikeet_integration_lag_events": 0, "lorikeet_integration_circuit_open": 0,
			"lorikeet_integration_oldest_event_seconds": 0,
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	})
}

// behindLog is read from a replica that is behind for some time.
type behindLog struct {
	*integrationTestLog
	until time.Time
}

func (l behindLog) LogRange(ctx context.Context, app string) (first, last uint64, err error) {
	first, last, err = l.integrationTestLog.LogRange(ctx, app)
	if time.Now().Before(l.until) {
		last = 2
	}
	return first, last, err
}

func TestPlaceBeyondTheEndIsNotGivenUpWhileAReplicaMayBeBehind(t *testing.T) {
	for name, c := range map[string]struct {
		behind time.Duration
		want   []uint64
	}{"it catches up": {10 * time.Second, []uint64{5}}, "it is an old backup": {time.Hour, []uint64{1, 2, 3, 4, 5}}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				system := actor.NewActorSystem(actor.WithLoggerFactory(func(*actor.ActorSystem) *slog.Logger { return slog.New(slog.DiscardHandler) }))
				log, s := newIntegrationTestLog(), &sink{}
				cfg := integrationTestConfig
				cfg.Created = time.Now()
				log.append(1, 2, 3, 1, 2)
				if err := log.SaveCursor(t.Context(), integrationTestKey, 4); err != nil {
					t.Fatal(err)
				}
				m := NewIntegrations(system.Root, behindLog{log, time.Now().Add(c.behind)}, IntegrationsConfig{Random: func() float64 { return .9 }, ReplicaPatience: 30 * time.Second})
				m.Set(integrationTestKey, cfg, s.build)
				settleFor(time.Minute)
				if diff := cmp.Diff(c.want, sorted(s.seqs())); diff != "" {
					t.Error(diff)
				}
				if err := m.Stop(t.Context()); err != nil {
					t.Errorf("stop: %v", err)
				}
				system.Shutdown()
				time.Sleep(2 * time.Minute)
				synctest.Wait()
			})
		})
	}
}
