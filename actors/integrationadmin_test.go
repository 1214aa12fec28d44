package actors

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"lorikeet/messages"
	"lorikeet/persistence/memory"
)

// documents are a store that can fail.
type documents struct {
	*memory.Store
	mu   sync.Mutex
	fail error
}

func (d *documents) setFail(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fail = err
}

func (d *documents) WriteDocuments(ctx context.Context, writes []messages.Write) error {
	d.mu.Lock()
	err := d.fail
	d.mu.Unlock()
	if err != nil {
		return err
	}
	return d.Store.WriteDocuments(ctx, writes)
}

// deliveryTest is integrationTest with a store of dead letters.
func deliveryTest(t *testing.T, f func(t *testing.T, m *Integrations, log *integrationTestLog, s *sink, docs *documents)) {
	t.Helper()
	docs := &documents{Store: memory.New()}
	integrationTest(t, func(t *testing.T, m *Integrations, log *integrationTestLog, s *sink) {
		m.cfg.Documents = docs
		f(t, m, log, s, docs)
	})
}

func letters(t *testing.T, m *Integrations, q messages.DeadLetterQuery) (seqs []uint64) {
	t.Helper()
	q.Limit = max(q.Limit, 1000)
	page, err := m.DeadLetters(t.Context(), integrationTestKey, q)
	if err != nil {
		t.Fatal(err)
	}
	if page.Total != len(page.DeadLetters) {
		t.Errorf("%d of %d dead letters", len(page.DeadLetters), page.Total)
	}
	for _, d := range page.DeadLetters {
		seqs = append(seqs, d.Seq)
	}
	return seqs
}

// refuse refuses the events with these Seqs for good.
func refuse(seqs ...uint64) func(context.Context, messages.LogEntry) error {
	return func(_ context.Context, e messages.LogEntry) error {
		if slices.Contains(seqs, e.Seq) {
			return fmt.Errorf("%w: no such field", messages.ErrPermanent)
		}
		return nil
	}
}

func TestDeadLetterIsNotedBeforeTheCursorPassesIt(t *testing.T) {
	deliveryTest(t, func(t *testing.T, m *Integrations, log *integrationTestLog, s *sink, docs *documents) {
		s.set(refuse(2))
		docs.setFail(errors.New("disk is gone"))
		m.Set(integrationTestKey, integrationTestConfig, s.build)
		settleFor(time.Second)
		log.append(1, 1, 1)
		settleFor(10 * time.Second)
		if got := log.cursor(integrationTestKey); got >= 2 {
			t.Errorf("cursor %d passed an event that is nowhere", got)
		}
		if diff := cmp.Diff([]uint64{1, 3}, s.seqs()); diff != "" {
			t.Error(diff)
		}
		docs.setFail(nil)
		settleFor(3 * time.Second)
		if got := log.cursor(integrationTestKey); got != 3 {
			t.Errorf("cursor %d, want 3", got)
		}
		page, err := m.DeadLetters(t.Context(), integrationTestKey, messages.DeadLetterQuery{Limit: 10})
		if err != nil || page.Total != 1 {
			t.Fatal(page, err)
		}
		d := page.DeadLetters[0]
		if d.EventID != "event-2" || d.DeviceID != "dev1" || d.Type != messages.EventUplink || d.Seq != 2 || d.Tries != 1 || d.Reason != "permanent: no such field" || d.GivenUpAt.IsZero() {
			t.Errorf("%+v", d)
		}
		if got := status(t, m); got.DeadLetters != 1 || got.DeadLettersKept != 1 {
			t.Errorf("%+v", got)
		}
	})
}

func TestDeadLettersAreSelectedAndDeleted(t *testing.T) {
	deliveryTest(t, func(t *testing.T, m *Integrations, log *integrationTestLog, s *sink, docs *documents) {
		s.set(refuse(1, 2, 3, 4))
		m.Set(integrationTestKey, integrationTestConfig, s.build)
		settleFor(time.Second)
		log.append(1, 2)
		settleFor(time.Minute)
		middle := time.Now()
		log.append(1, 2, 3)
		settleFor(time.Second)
		for name, c := range map[string]struct {
			q    messages.DeadLetterQuery
			want []uint64
		}{
			"all":       {messages.DeadLetterQuery{}, []uint64{1, 2, 3, 4}},
			"a device":  {messages.DeadLetterQuery{DeviceID: "dev2"}, []uint64{2, 4}},
			"a type":    {messages.DeadLetterQuery{Type: messages.EventJoin}, nil},
			"a time on": {messages.DeadLetterQuery{After: &middle}, []uint64{3, 4}},
			"before":    {messages.DeadLetterQuery{Before: &middle, DeviceID: "dev1"}, []uint64{1}},
		} {
			if diff := cmp.Diff(c.want, sorted(letters(t, m, c.q))); diff != "" {
				t.Errorf("%s: %s", name, diff)
			}
		}
		page, err := m.DeadLetters(t.Context(), integrationTestKey, messages.DeadLetterQuery{Skip: 3, Limit: 2})
		if err != nil || page.Total != 4 || len(page.DeadLetters) != 1 {
			t.Errorf("a page: %+v, %v", page, err)
		}
		if n, err := m.DeleteDeadLetters(t.Context(), integrationTestKey, messages.DeadLetterQuery{IDs: []string{page.DeadLetters[0].ID, "other"}}); n != 1 || err != nil {
			t.Errorf("deleted %d, %v", n, err)
		}
		if got := letters(t, m, messages.DeadLetterQuery{}); len(got) != 3 || status(t, m).DeadLettersKept != 3 {
			t.Errorf("left %v, status %+v", got, status(t, m))
		}
		m.Remove(integrationTestKey)
		settleFor(time.Second)
		if left, err := docs.ListDocuments(t.Context(), messages.KindDeadLetter, "", "", 10); err != nil || len(left) > 0 {
			t.Errorf("%d dead letters of a deleted integration, %v", len(left), err)
		}
	})
}

func TestDeadLettersAreDrivenAgain(t *testing.T) {
	deliveryTest(t, func(t *testing.T, m *Integrations, log *integrationTestLog, s *sink, _ *documents) {
		s.set(refuse(1, 3, 5))
		m.Set(integrationTestKey, integrationTestConfig, s.build)
		settleFor(time.Second)
		log.append(1, 1, 1, 2, 2)
		settleFor(time.Second)
		s.set(refuse(5))
		if got, err := m.Redrive(t.Context(), integrationTestKey, messages.DeadLetterQuery{}); err != nil || got != (messages.RedriveResult{Redriven: 3}) {
			t.Errorf("%+v, %v", got, err)
		}
		settleFor(time.Second)
		if diff := cmp.Diff([]uint64{1, 2, 3, 4}, sorted(s.seqs())); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff([]uint64{5}, letters(t, m, messages.DeadLetterQuery{})); diff != "" {
			t.Errorf("what is refused again stays: %s", diff)
		}
		page, err := m.Attempts(integrationTestKey, messages.AttemptQuery{DeviceID: "dev1", Limit: 10})
		if err != nil || page.Total != 5 || !page.Attempts[0].Redriven || page.Attempts[4].Redriven {
			t.Errorf("%+v, %v", page, err)
		}
		log.trim(5)
		if got, err := m.Redrive(t.Context(), integrationTestKey, messages.DeadLetterQuery{}); err != nil || got != (messages.RedriveResult{Gone: 1}) {
			t.Errorf("%+v, %v", got, err)
		}
		if got := status(t, m); got.Cursor != 5 || got.DeadLettersKept != 1 || got.Lost != 0 || got.Redriving != 0 {
			t.Errorf("%+v", got)
		}
	})
}

func TestDeadLetterIsFoundInACopyOfTheLog(t *testing.T) {
	deliveryTest(t, func(t *testing.T, m *Integrations, log *integrationTestLog, s *sink, _ *documents) {
		s.set(refuse(40))
		m.Set(integrationTestKey, integrationTestConfig, s.build)
		settleFor(time.Second)
		for range 100 {
			log.append(1)
			settleFor(time.Second)
		}
		log.mu.Lock()
		for i := range log.entries { // the copy has other places
			log.entries[i].Seq += 1000
		}
		log.first += 1000
		log.mu.Unlock()
		s.set(nil)
		if got, err := m.Redrive(t.Context(), integrationTestKey, messages.DeadLetterQuery{}); err != nil || got.Redriven != 1 {
			t.Errorf("%+v, %v", got, err)
		}
		settleFor(time.Second)
		if got := letters(t, m, messages.DeadLetterQuery{}); len(got) > 0 || !slices.Contains(s.seqs(), 1040) {
			t.Errorf("left %v, delivered %v", got, s.seqs())
		}
	})
}

func TestDeadLettersAreBounded(t *testing.T) {
	deliveryTest(t, func(t *testing.T, m *Integrations, log *integrationTestLog, s *sink, _ *documents) {
		s.set(func(context.Context, messages.LogEntry) error { return messages.ErrPermanent })
		m.Set(integrationTestKey, integrationTestConfig, s.build)
		settleFor(time.Second)
		for i := range maxDeadLetters + 300 {
			log.append(i)
			if i%100 == 0 {
				settleFor(time.Second)
			}
		}
		settleFor(time.Minute)
		got := status(t, m)
		if got.DeadLetters != maxDeadLetters+300 || got.DeadLettersKept > maxDeadLetters || got.DeadLettersKept < maxDeadLetters-roomAgain || got.Cursor != maxDeadLetters+300 {
			t.Errorf("%+v", got)
		}
		page, err := m.DeadLetters(t.Context(), integrationTestKey, messages.DeadLetterQuery{Skip: got.DeadLettersKept - 1, Limit: 10})
		if err != nil || len(page.DeadLetters) != 1 || page.Total != got.DeadLettersKept {
			t.Errorf("%d of %d, %v", len(page.DeadLetters), page.Total, err)
		}
	})
}

func TestReplayRepeatsInOrder(t *testing.T) {
	deliveryTest(t, func(t *testing.T, m *Integrations, log *integrationTestLog, s *sink, _ *documents) {
		m.Set(integrationTestKey, integrationTestConfig, s.build)
		settleFor(time.Second)
		log.append(1, 2, 1)
		settleFor(time.Minute)
		from := time.Now()
		log.append(1, 1, 2)
		log.mu.Lock()
		log.entries[4].Type = messages.EventJoin // which it does not want
		log.mu.Unlock()
		settleFor(time.Minute)
		got, err := m.Replay(t.Context(), integrationTestKey, messages.ReplayRequest{From: &from})
		if err != nil || got.Events != 2 || got.Cursor != 3 || got.FirstEventID != "event-4" || got.Estimated {
			t.Errorf("%+v, %v", got, err)
		}
		if cursor := log.cursor(integrationTestKey); cursor != 3 {
			t.Errorf("cursor %d when the replay is answered", cursor)
		}
		settleFor(time.Second)
		if diff := cmp.Diff([]uint64{4, 6}, sorted(s.seqs()[5:])); diff != "" {
			t.Error(diff)
		}
		if got, err = m.Replay(t.Context(), integrationTestKey, messages.ReplayRequest{EventID: "event-1"}); err != nil || got.Events != 5 || got.Cursor != 0 {
			t.Errorf("%+v, %v", got, err)
		}
		settleFor(time.Second)
		all := s.seqs()[7:]
		if len(all) != 5 || slices.Index(all, 1) > slices.Index(all, 3) || slices.Index(all, 3) > slices.Index(all, 4) {
			t.Errorf("repeated %v", all)
		}
		if got := status(t, m); got.Delivered != 12 || got.Cursor != 6 || got.Lag != 0 {
			t.Errorf("%+v", got)
		}
	})
}

func TestReplayNeverSkips(t *testing.T) {
	deliveryTest(t, func(t *testing.T, m *Integrations, log *integrationTestLog, s *sink, _ *documents) {
		s.set(func(context.Context, messages.LogEntry) error { return errIntegrationTest })
		m.Set(integrationTestKey, integrationTestConfig, s.build)
		settleFor(time.Second)
		log.append(1, 1, 1)
		settleFor(time.Minute)
		for _, req := range []messages.ReplayRequest{{EventID: "event-3"}, {From: new(time.Now().Add(time.Hour))}} {
			if got, err := m.Replay(t.Context(), integrationTestKey, req); err != nil || got.Events != 0 || got.Cursor != 0 {
				t.Errorf("%+v, %v", got, err)
			}
		}
		if _, err := m.Replay(t.Context(), integrationTestKey, messages.ReplayRequest{EventID: "event-9"}); messages.CodeOf(err) != messages.CodeNotFound {
			t.Errorf("an event that is not there: %v", err)
		}
		if _, err := m.Replay(t.Context(), "app/webhook/other", messages.ReplayRequest{EventID: "event-1"}); !errors.Is(err, ErrNotHere) {
			t.Errorf("an integration that is not here: %v", err)
		}
		s.set(nil)
		settleFor(time.Minute)
		if diff := cmp.Diff([]uint64{1, 2, 3}, s.seqs()); diff != "" {
			t.Error(diff)
		}
	})
}

// A replay works whatever the integration is doing.
func TestReplayInEveryState(t *testing.T) {
	hang := func(ctx context.Context, _ messages.LogEntry) error { <-ctx.Done(); return ctx.Err() }
	fail := func(context.Context, messages.LogEntry) error { return errIntegrationTest }
	for name, c := range map[string]struct {
		deliver func(context.Context, messages.LogEntry) error
		paused  bool
		invalid bool
	}{
		"hanging": {deliver: hang}, "failing": {deliver: fail}, "paused": {paused: true}, "invalid": {invalid: true},
	} {
		t.Run(name, func(t *testing.T) {
			deliveryTest(t, func(t *testing.T, m *Integrations, log *integrationTestLog, s *sink, _ *documents) {
				m.Set(integrationTestKey, integrationTestConfig, s.build)
				settleFor(time.Second)
				log.append(1, 2, 1)
				settleFor(time.Second)
				s.set(c.deliver)
				cfg, build := integrationTestConfig, s.build
				cfg.Paused = c.paused
				if c.invalid {
					build = func() (Integration, error) { return nil, errIntegrationTest }
				}
				m.Set(integrationTestKey, cfg, build)
				settleFor(time.Second)
				log.append(1)
				settleFor(time.Minute)
				before := time.Now()
				got, err := m.Replay(t.Context(), integrationTestKey, messages.ReplayRequest{EventID: "event-2"})
				if err != nil || got.Events != 2 || got.Estimated != c.invalid || log.cursor(integrationTestKey) != 1 {
					t.Errorf("%+v, %v, cursor %d", got, err, log.cursor(integrationTestKey))
				}
				if took := time.Since(before); took > 2*integrationStopGrace {
					t.Errorf("took %v", took)
				}
				s.set(nil)
				m.Set(integrationTestKey, integrationTestConfig, s.build)
				settleFor(time.Minute)
				again := s.seqs()[3:]
				if slices.Index(again, 3) > slices.Index(again, 4) { // of one device
					t.Errorf("repeated %v", again)
				}
				// What was delivered behind an event that waits comes once more with the new configuration.
				if diff := cmp.Diff([]uint64{2, 3, 4}, slices.Compact(sorted(again))); diff != "" {
					t.Error(diff)
				}
			})
		})
	}
}

func TestAttemptsAreRememberedNewestFirst(t *testing.T) {
	deliveryTest(t, func(t *testing.T, m *Integrations, log *integrationTestLog, s *sink, _ *documents) {
		s.set(func(_ context.Context, e messages.LogEntry) error {
			if e.Seq == 1 && s.tries < 3 {
				return errIntegrationTest
			}
			return nil
		})
		m.Set(integrationTestKey, integrationTestConfig, s.build)
		settleFor(time.Second)
		log.append(1)
		settleFor(time.Minute)
		for i := range 250 {
			log.append(i)
		}
		settleFor(time.Second)
		page, err := m.Attempts(integrationTestKey, messages.AttemptQuery{Limit: 10})
		if err != nil || page.Total != rememberedAttempts || len(page.Attempts) != 10 || page.Attempts[0].Time.Before(page.Attempts[9].Time) {
			t.Errorf("%d of %d, %v", len(page.Attempts), page.Total, err)
		}
		page, err = m.Attempts(integrationTestKey, messages.AttemptQuery{Outcome: messages.AttemptFailed, Limit: 10})
		if err != nil || page.Total != 2 {
			t.Fatalf("%+v, %v", page, err)
		}
		for i, a := range page.Attempts {
			if a.Try != 2-i || a.EventID != "event-1" || a.DeviceID != "dev1" || a.Error != errIntegrationTest.Error() || a.NextTryAt == nil || !a.NextTryAt.After(a.Time) {
				t.Errorf("try %d: %+v", i, a)
			}
		}
		m.Set(integrationTestKey, integrationTestConfig, s.build) // a change of the configuration forgets nothing
		settleFor(time.Second)
		if page, err = m.Attempts(integrationTestKey, messages.AttemptQuery{EventID: "event-1", Skip: 1, Limit: 10, Outcome: messages.AttemptFailed}); err != nil || page.Total != 2 || len(page.Attempts) != 1 {
			t.Errorf("%+v, %v", page, err)
		}
	})
}

// batchSink takes batches of three, of the same parity of Seq.
type batchSink struct {
	sink
	answer   func([]messages.LogEntry) error
	requests [][]uint64
}

func (s *batchSink) Batch() (int, time.Duration)         { return 3, time.Second }
func (s *batchSink) BatchKey(e messages.LogEntry) string { return fmt.Sprint(e.Seq % 2) }
func (s *batchSink) take() (requests [][]uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	requests, s.requests = s.requests, nil
	return
}
func (s *batchSink) buildBatch() (Integration, error) { return s, nil }
func (s *batchSink) DeliverBatch(_ context.Context, entries []messages.LogEntry) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var seqs []uint64
	for _, e := range entries {
		seqs = append(seqs, e.Seq)
	}
	s.requests = append(s.requests, seqs)
	if s.answer != nil {
		if err := s.answer(entries); err != nil {
			return 400, err
		}
	}
	return 200, nil
}

func TestBatchesAreFilledOrSentAfterAWait(t *testing.T) {
	deliveryTest(t, func(t *testing.T, m *Integrations, log *integrationTestLog, _ *sink, _ *documents) {
		s := &batchSink{}
		m.Set(integrationTestKey, integrationTestConfig, s.buildBatch)
		settleFor(time.Second)
		log.append(1, 2, 3, 4, 5) // odd: 1 3 5, even: 2 4
		settleFor(time.Millisecond)
		if diff := cmp.Diff([][]uint64{{1, 3, 5}}, s.take()); diff != "" {
			t.Errorf("full at once: %s", diff)
		}
		settleFor(2 * time.Second)
		if diff := cmp.Diff([][]uint64{{2, 4}}, s.take()); diff != "" {
			t.Errorf("after the wait: %s", diff)
		}
		page, err := m.Attempts(integrationTestKey, messages.AttemptQuery{Limit: 10})
		if err != nil || page.Total != 5 || page.Attempts[0].BatchSize != 2 || page.Attempts[0].StatusCode != 200 {
			t.Errorf("%+v, %v", page, err)
		}
		if got := status(t, m); got.Delivered != 5 || got.Cursor != 5 {
			t.Errorf("%+v", got)
		}
	})
}

func TestOneBadEventOfABatchIsFoundAndTheOthersArrive(t *testing.T) {
	deliveryTest(t, func(t *testing.T, m *Integrations, log *integrationTestLog, _ *sink, _ *documents) {
		s := &batchSink{answer: func(entries []messages.LogEntry) error {
			for _, e := range entries {
				if e.Seq == 3 {
					return messages.ErrPermanent
				}
			}
			return nil
		}}
		m.Set(integrationTestKey, integrationTestConfig, s.buildBatch)
		settleFor(time.Second)
		log.append(1, 2, 3, 4, 5)
		settleFor(time.Minute)
		if diff := cmp.Diff([]uint64{3}, letters(t, m, messages.DeadLetterQuery{})); diff != "" {
			t.Error(diff)
		}
		if got := status(t, m); got.Delivered != 4 || got.DeadLetters != 1 || got.Cursor != 5 || got.LastStatus != 400 {
			t.Errorf("%+v, %v", got, s.take())
		}
	})
}

func TestDeadLettersOfADeletedApplicationAreForgotten(t *testing.T) {
	t.Parallel()
	docs := memory.New()
	for _, id := range []string{"app.webhook.hook.1", "app.pubsub.nats.1", "app2.webhook.hook.1"} {
		if err := docs.WriteDocuments(t.Context(), []messages.Write{{Kind: messages.KindDeadLetter, ID: id, Value: []byte("{}")}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := ForgetDeliveries(t.Context(), docs, "app"); err != nil {
		t.Fatal(err)
	}
	left, err := docs.ListDocuments(t.Context(), messages.KindDeadLetter, "", "", 10)
	if err != nil || len(left) != 1 || left[0].ID != "app2.webhook.hook.1" {
		t.Errorf("left %v, %v", left, err)
	}
}

// connectedSink keeps a connection.
type connectedSink struct{ sink }

func (*connectedSink) Connection() messages.ConnectionState {
	return messages.ConnectionState{State: messages.ConnectionConnecting, LastError: "connection refused"}
}

func TestStatusShowsTheConnection(t *testing.T) {
	deliveryTest(t, func(t *testing.T, m *Integrations, _ *integrationTestLog, s *sink, _ *documents) {
		c := &connectedSink{}
		m.Set(integrationTestKey, integrationTestConfig, func() (Integration, error) { return c, nil })
		settleFor(time.Second)
		if got := status(t, m).Message("n1"); got.Connection == nil || got.Connection.LastError != "connection refused" || got.Node != "n1" {
			t.Errorf("%+v", got)
		}
		m.Set(integrationTestKey, integrationTestConfig, s.build)
		settleFor(time.Second)
		if got := status(t, m); got.Connection != nil {
			t.Errorf("of one that keeps none: %+v", got.Connection)
		}
	})
}
