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
	// One that renews its record less often than who asks expects is waited for; a dead one too, since nobody knows.
	long := 3 * lease
	if _, err := n.members.kv.Put(ctx, "0", encodeRecord(record{Name: "rare", State: StateAlive, Lease: long})); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	running("a")
	if looked := time.Since(began); looked < long {
		t.Errorf("it looked for %s, less than a lease of %s", looked, long)
	}
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
