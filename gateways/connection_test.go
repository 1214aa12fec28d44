package gateways

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"lorikeet/messages"
)

func TestWatchersHearOfAConnection(t *testing.T) {
	t.Parallel()
	var heard []string
	tracker := NewConnectionTracker(func(what, reason string) { heard = append(heard, what+" "+reason) })
	tracker.Down("connection refused")
	tracker.Up()
	tracker.Error("a subscription was refused") // on a connection that stays
	tracker.Down("")                            // the reason is still to come
	tracker.Down("connection reset")
	tracker.Stop()
	tracker.Stop()
	if diff := cmp.Diff([]string{"failed connection refused", "started ", "failed connection reset", "stopped "}, heard); diff != "" {
		t.Error(diff)
	}
	if got := tracker.State(); got.Connects != 1 || got.LastError != "connection reset" || got.State != messages.ConnectionConnecting {
		t.Errorf("%+v", got)
	}
}
