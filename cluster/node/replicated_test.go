package node

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
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
	return out
}

func TestReplicatedBucketOutlivesItsLeader(t *testing.T) {
	t.Parallel()
	servers := natsCluster(t)
	var urls []string
	for _, s := range servers {
		urls = append(urls, s.ClientURL())
	}
	eventually(t, "NATS has a leader", func() bool {
		for _, s := range servers {
			if s.JetStreamIsLeader() && len(s.JetStreamClusterPeers()) == 3 {
				return true
			}
		}
		return false
	})
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
