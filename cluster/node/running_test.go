package node

import (
	"context"
	"slices"
	"testing"
	"time"
)

func TestRunningNodesAreSeenFromOutside(t *testing.T) {
	cfg := testConfig(t)
	ctx, lease := t.Context(), time.Second
	running := func(want ...string) {
		t.Helper()
		if got, err := Running(ctx, cfg.JetStream, "lorikeet", lease); err != nil || !slices.Equal(got, want) {
			t.Errorf("running nodes: %v, %v; want %v", got, err, want)
		}
	}
	running() // there was never one
	cfg.Lease = lease
	n, err := Start(ctx, cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	running("a")
	if err := n.Stop(context.Background()); err != nil {
		t.Fatal(err)
	}
	running()
	ended, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := Running(ended, cfg.JetStream, "lorikeet", lease); err == nil {
		t.Error("the end of the context is not noticed")
	}
}
