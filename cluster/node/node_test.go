package node

import (
	"testing"
	"time"
)

func TestNodesReachDevicesOfEachOther(t *testing.T) {
	t.Parallel()
	s := natsServer(t, t.TempDir(), 0)
	nodes := startCluster(t, s.ClientURL(), 2*time.Second, "a", "b")
	for _, p := range nodes {
		for _, owner := range []string{"a", "b"} {
			d := deviceOf(p, owner)
			for _, kind := range []string{"do", "reading"} {
				if got := p.do(request{Op: "ask", Device: d, Kind: kind}); got.Value != owner {
					t.Errorf("%s asks a device of %s: answered by %q", p.name, owner, got.Value)
				}
			}
			if got := p.try(request{Op: "ask", Device: d, Kind: "refuse"}); got.Code != "refused" {
				t.Errorf("%s asks a device of %s: got %+v, want its refusal", p.name, owner, got)
			}
			p.do(request{Op: "frame", Device: d})
		}
	}
	if got := nodes[0].do(request{Op: "asknode", Target: "b", Kind: "greet"}).Value; got != "b greets a x" {
		t.Errorf("got %q", got)
	}
	for _, kind := range []string{"unheard", "panic"} {
		if got := nodes[0].try(request{Op: "asknode", Target: "b", Kind: kind}); got.Error == "" {
			t.Errorf("kind %s: got %+v, want an error", kind, got)
		}
	}
	nodes[0].do(request{Op: "tellnodes"})
	eventually(t, "b is told", func() bool { return nodes[1].do(request{Op: "told"}).Value == "1" })
	if got := nodes[0].do(request{Op: "told"}).Value; got != "0" {
		t.Errorf("a told itself")
	}
	total := 0
	for _, m := range nodes[0].do(request{Op: "members"}).Members {
		total += m.Shards
		if m.Shards < shards/3 {
			t.Errorf("%+v has too few shards", m)
		}
	}
	if total != shards {
		t.Errorf("%d shards are owned", total)
	}
}
