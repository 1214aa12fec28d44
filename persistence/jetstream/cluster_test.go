package jetstream

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"lorikeet/messages"
	"lorikeet/persistence/jetstream/natsserver"
	"lorikeet/persistence/persistencetest"
)

// trio is three servers of one cluster in this process.
type trio struct {
	configs [3]natsserver.Config
	servers [3]*natsserver.Server
}

func freePort(t testing.TB) string {
	t.Helper()
	for {
		// Below the ports that the system gives to connections, so that none of these takes it before it is used.
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 10000+rand.IntN(20000)))
		if err != nil {
			continue
		}
		defer l.Close()
		return l.Addr().String()
	}
}

func startTrio(t testing.TB) *trio { return startTrioWith(t, true) }

func startTrioWith(t testing.TB, noSync bool) *trio {
	t.Helper()
	c := &trio{}
	routes := []string{freePort(t), freePort(t), freePort(t)}
	for i := range c.configs {
		c.configs[i] = natsserver.Config{
			Name: fmt.Sprintf("n%d", i), StoreDir: t.TempDir(), Listen: freePort(t), ClusterName: "test", ClusterListen: routes[i], Routes: routes,
			Secret: "a secret of the cluster", NoSync: noSync,
		}
	}
	var wg sync.WaitGroup
	for i := range c.servers {
		wg.Go(func() { c.start(t, i) })
	}
	wg.Wait()
	t.Cleanup(func() {
		for _, s := range c.servers {
			if s != nil {
				s.Close()
			}
		}
	})
	if t.Failed() {
		t.FailNow()
	}
	return c
}

func (c *trio) start(t testing.TB, i int) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	s, err := natsserver.Start(ctx, c.configs[i])
	if err != nil {
		t.Error(err)
		return
	}
	c.servers[i] = s
}

// connect makes a client that knows all servers.
func (c *trio) connect(t testing.TB) *nats.Conn {
	t.Helper()
	o := Options{Name: t.Name(), User: natsserver.User, Password: c.configs[0].Secret}
	for _, cfg := range c.configs {
		o.URLs = append(o.URLs, "nats://"+cfg.Listen)
	}
	nc, err := Connect(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

func (c *trio) leader(t testing.TB, stream string) int {
	t.Helper()
	for i, s := range c.servers {
		if s.Leads(stream) {
			return i
		}
	}
	t.Fatalf("nobody leads %s", stream)
	return 0
}

// The tests of a cluster run one after the other on three servers, since starting these takes its time.
func TestCluster(t *testing.T) {
	t.Parallel()
	c := startTrio(t)
	t.Run("Contract", func(t *testing.T) {
		persistencetest.Run(t, persistencetest.Options{}, func(t *testing.T) persistencetest.Store {
			return mustOpen(t, Config{Conn: c.connect(t), Replicas: 3, Journals: 1})
		})
	})
	t.Run("LeaderLoss", func(t *testing.T) { testLeaderLoss(t, c) })
}

// A server that leads the journal is stopped and started again while many devices commit: every commit that was reported is there once and in order.
func testLeaderLoss(t *testing.T, c *trio) {
	ns := newNamespace()
	s := mustOpen(t, Config{Conn: c.connect(t), Namespace: ns, Replicas: 3, Journals: 1})
	reader := mustOpen(t, Config{Conn: c.connect(t), Namespace: ns, Replicas: 3, Journals: 1})
	const devices = 32
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var total atomic.Int64
	stop := make(chan struct{})
	var counts [devices]int
	var wg sync.WaitGroup
	for i := range devices {
		wg.Go(func() {
			d := messages.DeviceID{ApplicationID: "app", DeviceID: fmt.Sprintf("dev-%02d", i)}
			var rev messages.Revision
			for {
				select {
				case <-stop:
					return
				default:
				}
				e := messages.Event{ID: fmt.Sprintf("%s %d", d.DeviceID, counts[i]), Device: d, Type: messages.EventUplink}
				next, err := s.Commit(ctx, messages.Commit{Device: d, Expected: rev, Session: fmt.Append(nil, counts[i]), Events: []messages.Event{e}})
				if err != nil {
					t.Errorf("%s commit %d: %v", d, counts[i], err)
					return
				}
				rev = next
				counts[i]++
				total.Add(1)
			}
		})
	}
	await := func(n int64) {
		for start := total.Load(); total.Load() < start+n && ctx.Err() == nil; {
			time.Sleep(time.Millisecond) // a poll of the condition
		}
	}
	await(500)
	lead := c.leader(t, s.names.journal(0))
	c.servers[lead].Close()
	await(500)
	c.start(t, lead)
	await(500)
	close(stop)
	wg.Wait()

	next := make(map[string]int)
	for _, id := range readAll(t, reader, "app") {
		var dev string
		var n int
		if _, err := fmt.Sscan(id, &dev, &n); err != nil || n != next[dev] {
			t.Fatalf("event %q, want number %d: %v", id, next[dev], err)
		}
		next[dev]++
	}
	for i, n := range counts {
		if dev := fmt.Sprintf("dev-%02d", i); next[dev] != n {
			t.Errorf("%s: %d events in the log, %d were committed", dev, next[dev], n)
		}
	}
	t.Logf("%d commits", total.Load())
}
