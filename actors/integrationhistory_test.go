package actors

import (
	"context"
	"errors"
	"testing"
	"time"

	"lorikeet/messages"
)

func TestHealthAndCountsSurviveARestart(t *testing.T) {
	deliveryTest(t, func(t *testing.T, m *Integrations, log *integrationTestLog, s *sink, _ *documents) {
		m.Set(integrationTestKey, integrationTestConfig, s.build)
		settleFor(time.Second)
		log.append(1, 2)
		settleFor(time.Second)
		s.set(func(context.Context, messages.LogEntry) error { return errIntegrationTest })
		log.append(3)
		settleFor(time.Minute)
		before := status(t, m)
		if before.Delivered != 2 || before.Failed < 3 || before.FailedAttempts != before.Failed {
			t.Fatalf("%+v", before)
		}
		if err := m.Release(t.Context(), integrationTestKey); err != nil {
			t.Fatal(err)
		}
		s.set(nil)
		paused := integrationTestConfig
		paused.Paused = true // so that nothing changes
		m.Set(integrationTestKey, paused, s.build)
		settleFor(time.Second)
		after := status(t, m)
		if after.Delivered != before.Delivered || after.Failed != before.Failed || after.FailedAttempts != before.FailedAttempts || after.LastError != before.LastError ||
			!after.LastFailedAt.Equal(before.LastFailedAt) || !after.LastDeliveredAt.Equal(before.LastDeliveredAt) {
			t.Errorf("after a restart\n%+v\nbefore\n%+v", after, before)
		}
		page, err := m.Attempts(integrationTestKey, messages.AttemptQuery{Outcome: messages.AttemptFailed, Limit: 200})
		if err != nil || page.Total == 0 || page.Attempts[0].Error != errIntegrationTest.Error() {
			t.Errorf("failed tries after a restart: %+v, %v", page, err)
		}
		m.Set(integrationTestKey, integrationTestConfig, s.build)
		settleFor(time.Second)
		if got := status(t, m); got.Delivered != 3 || got.Failed != before.Failed || got.FailedAttempts != 0 {
			t.Errorf("counted twice, or not on: %+v", got)
		}
	})
}

func TestACrashForgetsLittleOfWhatWasDelivered(t *testing.T) {
	deliveryTest(t, func(t *testing.T, m *Integrations, log *integrationTestLog, s *sink, _ *documents) {
		m.Set(integrationTestKey, integrationTestConfig, s.build)
		settleFor(time.Second)
		log.append(1)
		settleFor(historyEvery + time.Second)
		s.set(func(context.Context, messages.LogEntry) error { return errIntegrationTest })
		log.append(2)
		settleFor(3 * time.Second) // the health has changed: that is noted at once
		again := NewIntegrations(m.root, log, IntegrationsConfig{Documents: m.cfg.Documents, Random: m.cfg.Random})
		paused := integrationTestConfig
		paused.Paused = true
		again.Set(integrationTestKey, paused, s.build)
		settleFor(time.Second)
		got, ok := again.Status(t.Context(), integrationTestKey)
		if !ok || got.Delivered != 1 || got.FailedAttempts == 0 || got.LastError == "" {
			t.Errorf("after a crash: %+v", got)
		}
		if err := again.Stop(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestAStoreThatFailsKeepsNoEventsBack(t *testing.T) {
	deliveryTest(t, func(t *testing.T, m *Integrations, log *integrationTestLog, s *sink, docs *documents) {
		docs.setFail(errors.New("disk is gone"))
		m.Set(integrationTestKey, integrationTestConfig, s.build)
		settleFor(time.Second)
		log.append(1, 1)
		settleFor(2 * historyEvery)
		if got := status(t, m); got.Delivered != 2 || got.Cursor != 2 {
			t.Errorf("%+v", got)
		}
		docs.setFail(nil)
		settleFor(2 * historyEvery)
		if all, err := docs.ListDocuments(t.Context(), messages.KindDelivery, "app.", "", 10); err != nil || len(all) != 1 {
			t.Errorf("remembered: %v, %v", all, err)
		}
	})
}

func TestADeletedIntegrationIsForgotten(t *testing.T) {
	deliveryTest(t, func(t *testing.T, m *Integrations, log *integrationTestLog, s *sink, docs *documents) {
		first := integrationTestConfig
		first.Created = time.Now()
		m.Set(integrationTestKey, first, s.build)
		settleFor(time.Second)
		log.append(1)
		settleFor(time.Minute)
		left := func() int {
			all, err := docs.ListDocuments(t.Context(), messages.KindDelivery, "", "", 10)
			if err != nil {
				t.Fatal(err)
			}
			return len(all)
		}
		if left() != 1 {
			t.Fatalf("%d documents", left())
		}
		if err := m.Release(t.Context(), integrationTestKey); err != nil { // it was deleted while its node was away
			t.Fatal(err)
		}
		second := first
		second.Created = time.Now()
		m.Set(integrationTestKey, second, s.build)
		settleFor(time.Second)
		if got := status(t, m); got.Delivered != 0 {
			t.Errorf("another of the same name counts on: %+v", got)
		}
		m.Remove(integrationTestKey)
		settleFor(time.Second)
		if left() != 0 {
			t.Errorf("%d documents are left of a deleted integration", left())
		}
	})
}

func TestWatchersHearOfFailedTries(t *testing.T) {
	deliveryTest(t, func(t *testing.T, m *Integrations, log *integrationTestLog, s *sink, _ *documents) {
		heard := make(chan messages.DeliveryNotice, 1000)
		m.cfg.Notify = func(n messages.DeliveryNotice) { heard <- n }
		s.set(func(context.Context, messages.LogEntry) error { return errIntegrationTest })
		m.Set(integrationTestKey, integrationTestConfig, s.build)
		settleFor(time.Second)
		log.append(1, 2, 3, 4, 5, 6, 7, 8)
		settleFor(noticeEvery / 2)
		if len(heard) != 1 { // there were 8 at least
			t.Fatalf("%d notices within a moment, want 1", len(heard))
		}
		n := <-heard
		want := messages.DeliveryNotice{
			IntegrationRef: messages.IntegrationRef{Kind: "webhook", ApplicationID: "app", ID: "hook"}, What: messages.NoticeFailed, Time: n.Time, DeviceID: n.DeviceID,
			Error: errIntegrationTest.Error(),
		}
		if n != want || n.DeviceID == "" || n.Time.IsZero() {
			t.Errorf("%+v", n)
		}
		settleFor(time.Minute)
		if len(heard) == 0 {
			t.Error("later failures are not told")
		}
	})
}

func TestADeadLetterThatWasJustDeliveredIsNotDrivenAgain(t *testing.T) {
	deliveryTest(t, func(t *testing.T, m *Integrations, log *integrationTestLog, s *sink, _ *documents) {
		s.set(refuse(1))
		m.Set(integrationTestKey, integrationTestConfig, s.build)
		settleFor(time.Second)
		log.append(1)
		settleFor(time.Second)
		s.set(nil)
		for range 2 { // the second time before it is noted that the first one did it
			if _, err := m.Redrive(t.Context(), integrationTestKey, messages.DeadLetterQuery{}); err != nil {
				t.Fatal(err)
			}
			settleFor(10 * time.Millisecond)
		}
		settleFor(time.Second)
		if got := s.seqs(); len(got) != 1 {
			t.Errorf("delivered %v, want it once", got)
		}
		if left := letters(t, m, messages.DeadLetterQuery{}); len(left) != 0 {
			t.Errorf("left %v", left)
		}
	})
}
