package node

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// freePort is a port that is free now, below those that the system gives to outgoing connections: it stays free for a restart.
func freePort() int {
	for {
		port := 10000 + rand.IntN(20000)
		if l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			_ = l.Close()
			return port
		}
	}
}

// natsCluster is three NATS servers that replicate.
func natsCluster(t *testing.T) []*server.Server {
	t.Helper()
	first := freePort() // JetStream wants routes before it listens
	routes := []*url.URL{{Scheme: "nats", Host: fmt.Sprint("127.0.0.1:", first)}}
	var out []*server.Server
	for i, port := range []int{first, server.RANDOM_PORT, server.RANDOM_PORT} {
		s, err := server.NewServer(&server.Options{ServerName: fmt.Sprint("nats-", i), Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: t.TempDir(),
			NoLog: true, NoSigs: true, Cluster: server.ClusterOpts{Name: "nats", Host: "127.0.0.1", Port: port}, Routes: routes})
		if err != nil {
			t.Fatal(err)
		}
		go s.Start() // waits for its peers
		t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
		out = append(out, s)
	}
	for _, s := range out {
		if !s.ReadyForConnections(time.Minute) {
			t.Fatal("NATS server does not start")
		}
	}
	eventually(t, "NATS has a leader", func() bool {
		return slices.ContainsFunc(out, func(s *server.Server) bool { return s.JetStreamIsLeader() && len(s.JetStreamClusterPeers()) == 3 })
	})
	return out
}

// A cluster that began with one NATS server and got more must not depend on the first one for its members alone.
func TestBucketGetsTheReplicasThatAreAskedFor(t *testing.T) {
	t.Parallel()
	nc, err := nats.Connect(natsCluster(t)[0].ClientURL())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ asked, want int }{{0, 1}, {3, 3}, {0, 3}, {1, 1}} {
		eventually(t, fmt.Sprintf("the bucket is opened with %d replicas", c.asked), func() bool {
			ctx, cancel := context.WithTimeout(t.Context(), tryPatience)
			defer cancel()
			_, err := openBucket(ctx, js, "lorikeet", c.asked)
			return err == nil
		})
		eventually(t, fmt.Sprintf("the bucket has %d replicas", c.want), func() bool {
			ctx, cancel := context.WithTimeout(t.Context(), tryPatience)
			defer cancel()
			stream, err := js.Stream(ctx, "KV_lorikeet_MEMBERS")
			return err == nil && stream.CachedInfo().Config.Replicas == c.want
		})
	}
}

func TestReplicatedBucketOutlivesItsLeader(t *testing.T) {
	t.Parallel()
	servers := natsCluster(t)
	var urls []string
	for _, s := range servers {
		urls = append(urls, s.ClientURL())
	}
	const lease = 2 * time.Second
	var nodes []*proc
	for _, name := range []string{"a", "b", "c"} {
		nodes = append(nodes, spawn(t, childSpec{Name: name, NATS: strings.Join(urls, ","), Lease: lease, Limit: time.Minute, Replicas: 3}))
	}
	for _, p := range nodes {
		p.event("started")
	}
	for _, p := range nodes {
		eventually(t, "all nodes alive", func() bool { return p.names() == "a alive, b alive, c alive" })
	}
	for _, s := range servers {
		if s.JetStreamIsStreamLeader("$G", "KV_lorikeet_MEMBERS") {
			s.Shutdown()
			break // a server that shuts down hands its streams over: a second one would be the leader now
		}
	}
	if err := nodes[2].cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	for _, p := range nodes[:2] {
		eventually(t, "only the dead node is removed", func() bool { return p.names() == "a alive, b alive" && p.try(request{Op: "suspended"}).Error == "" })
		for _, owner := range []string{"a", "b"} {
			if got := p.do(request{Op: "ask", Device: deviceOf(p, owner)}).Value; got != owner {
				t.Errorf("%s asks %s: %q", p.name, owner, got)
			}
		}
	}
}
