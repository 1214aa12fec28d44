package actors

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"lorikeet/messages"
)

func TestLagsShowWhoIsFurthestBehindFirst(t *testing.T) {
	integrationTest(t, func(t *testing.T, m *Integrations, log *integrationTestLog, s *sink) {
		dead := &sink{deliver: func(context.Context, messages.LogEntry) error { return errIntegrationTest }}
		m.Set(integrationTestKey, integrationTestConfig, s.build)
		m.Set("app/webhook/dead", IntegrationConfig{Application: "app", Kind: "webhook", ID: "dead"}, dead.build)
		settleFor(time.Second)
		log.append(1, 2, 3)
		settleFor(time.Hour)
		behind := messages.IntegrationLag{Kind: "webhook", ApplicationID: "app", ID: "dead", State: "open", Lag: 3}
		level := messages.IntegrationLag{Kind: "webhook", ApplicationID: "app", ID: "hook", State: "running"}
		got := m.Lags(t.Context(), 10)
		if len(got) > 0 && got[0].OldestAge < time.Hour.Seconds() {
			t.Errorf("the oldest is %g s old, want an hour", got[0].OldestAge)
		}
		for i := range got {
			got[i].OldestAge = 0
		}
		if diff := cmp.Diff([]messages.IntegrationLag{behind, level}, got); diff != "" {
			t.Error(diff)
		}
		if got := m.Lags(t.Context(), 1); len(got) != 1 || got[0].ID != "dead" {
			t.Errorf("of the one that is furthest behind: %+v", got)
		}
	})
}
