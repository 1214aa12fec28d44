package broker

import (
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

func TestSilentConnectionIsClosed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, stop := unnetworked(t, newWorld().config())
		defer stop()
		silent, slow := pipe(t, s), pipe(t, s)
		hello := encode(t, connectPacket(4, "c", "app1", "all"))
		began := time.Now()
		for _, b := range hello { // a byte each second
			time.Sleep(time.Second)
			if _, err := slow.Write([]byte{b}); err != nil {
				break
			}
		}
		silent.ends(t)
		slow.ends(t)
		if took := time.Since(began); took > 6*time.Second {
			t.Errorf("closed after %v", took)
		}
		synctest.Wait()
		if n := s.doorkeeper.total(); n != 0 {
			t.Errorf("%d connections are left", n)
		}
	})
}

func TestConnectionsAreLimited(t *testing.T) {
	t.Parallel()
	cfg := newWorld().config()
	cfg.MaxConnections = 8
	s := start(t, cfg)
	for range 4 {
		dial(t, s).login(t, 5, "", "app1", "all")
	}
	fifth := dial(t, s)
	if _, err := fifth.read(); err == nil || err == io.ErrUnexpectedEOF {
		t.Errorf("the fifth connection of this address: error %v", err)
	}
	if n := testutil.ToFloat64(s.metrics.refused.WithLabelValues("max_connections_of_address")); n != 1 {
		t.Errorf("%v refusals counted", n)
	}
}

func TestDoorkeeperCounts(t *testing.T) {
	t.Parallel()
	d := newDoorkeeper(10000)
	var in []*guest
	out := map[*guest]bool{}
	enter := func(host string, puts ...int) { // which of those before is put out
		t.Helper()
		g := &guest{host: host}
		g.line = line{g, out}
		refused, last := d.enter(g)
		if refused != "" || (last == nil) != (len(puts) == 0) {
			t.Fatalf("from %s with %d in: %q, put out %v", host, len(in), refused, last)
		}
		in = append(in, g)
		if last == nil {
			return
		}
		_ = last.Close()
		if !out[in[puts[0]]] {
			t.Fatalf("guest %d is not put out", puts[0])
		}
	}
	for range maxUnknownPerHost {
		enter("a")
	}
	enter("a", 0)
	for range maxUnknown - maxUnknownPerHost {
		enter("b")
	}
	enter("c", 1)
	d.known(in[2])
	d.known(in[2])
	enter("a")
	enter("a", 3) // the one that is known stays
	for _, g := range in {
		d.leave(g)
		d.leave(g)
	}
	if d.guests.all != 0 || d.guests.unknown.Len() != 0 || len(d.hosts) != 0 || len(d.open) != 0 {
		t.Errorf("left behind: %d and %d, %d addresses, %d connections", d.guests.all, d.guests.unknown.Len(), len(d.hosts), len(d.open))
	}
}

// line notes when it is closed.
type line struct {
	guest *guest
	out   map[*guest]bool
}

func (l line) Close() error { l.out[l.guest] = true; return nil }

func TestCrowdThatSaysNothingKeepsNobodyOut(t *testing.T) {
	t.Parallel()
	w := newWorld()
	cfg := w.config()
	cfg.ConnectTimeout, cfg.MaxConnections = patience, 100 // 50 of one address, and none of the crowd goes by itself
	s := start(t, cfg)
	for range 300 {
		dial(t, s)
	}
	for i := range 40 {
		connect(t, s, fmt.Sprint("c", i), "app1", "all")
		dial(t, s)
	}
	if n := s.sessionCount(); n != 40 {
		t.Errorf("%d clients are logged in", n)
	}
}

func TestPortInUseIsAnError(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	cfg := newWorld().config()
	cfg.Listen = l.Addr().String()
	if _, err := Open(cfg); err == nil || !strings.Contains(err.Error(), l.Addr().String()) {
		t.Errorf("error %v", err)
	}
}

func TestSuspendedServerSendsItsClientsAwayAndKeepsTheirSessions(t *testing.T) {
	t.Parallel()
	s := start(t, newWorld().config())
	c := dial(t, s)
	c.login(t, 4, "c", "app1", "all", keepSession(0))
	c.subscribe(t, "#", 1)
	s.Suspend(true)
	c.ends(t)
	for s.doorkeeper.total() > 0 {
		time.Sleep(time.Millisecond)
	}
	if _, err := dial(t, s).read(); err == nil {
		t.Error("a suspended server lets clients in")
	}
	s.Publish(event1(1))
	s.Suspend(false)
	c = dial(t, s)
	if ack := c.login(t, 4, "c", "app1", "all", keepSession(0)); !ack.SessionPresent {
		t.Error("the session is gone")
	}
	if pk := c.expect(t, packets.Publish); string(pk.Payload) != `{"n":1}` {
		t.Errorf("payload %s", pk.Payload)
	}
}
