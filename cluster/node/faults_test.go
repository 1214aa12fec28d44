package node

import (
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// works waits until a node under load has done some more, and gives the longest that something took until now.
func (p *proc) works(t *testing.T) time.Duration {
	t.Helper()
	done := func() int {
		n, err := strconv.Atoi(p.do(request{Op: "progress"}).Value)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	before := done()
	eventually(t, p.name+" works", func() bool { return done() > before+100 })
	return p.do(request{Op: "progress"}).Took
}

// unload ends the load of a node and looks at what must hold in any case.
func (p *proc) unload(t *testing.T) *summary {
	t.Helper()
	s := p.do(request{Op: "unload", Timeout: 30 * time.Second}).Summary
	t.Logf("node %s: %+v", p.name, *s)
	if s.Unsettled > 0 || s.GivenUp > 0 || s.Repeats > 0 {
		t.Errorf("node %s: each frame must be settled once and none given up", p.name)
	}
	return s
}

func TestKilledNodeDelaysAndLosesNothing(t *testing.T) {
	const lease = 2 * time.Second
	s := natsServer(t, t.TempDir(), 0)
	nodes := startCluster(t, s.ClientURL(), lease, "a", "b", "c")
	for _, p := range nodes[:2] {
		p.do(request{Op: "load", Workers: 2, Devices: 300})
	}
	for _, p := range nodes[:2] {
		p.works(t)
	}
	if err := nodes[2].cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	killed := time.Now()
	for _, p := range nodes[:2] {
		eventually(t, "the dead node is removed", func() bool { return p.names() == "a alive, b alive" })
	}
	t.Logf("removed after %s", time.Since(killed))
	for _, p := range nodes[:2] {
		p.works(t)
		sum := p.unload(t)
		t.Logf("node %s: the slowest request took %s, the slowest frame %s", p.name, sum.SlowestAsk, sum.SlowestFrame)
		for what := range sum.Errors {
			if what != "node.command device_busy" { // its outcome is unknown and it may not be repeated
				t.Errorf("node %s: unexpected error of %s", p.name, what)
			}
		}
	}
}

func TestPausedNodeIsRemovedAndEnds(t *testing.T) {
	const lease = 2 * time.Second
	s := natsServer(t, t.TempDir(), 0)
	nodes := startCluster(t, s.ClientURL(), lease, "a", "b")
	for _, p := range nodes {
		p.do(request{Op: "load", Workers: 2, Devices: 100})
	}
	for _, p := range nodes {
		p.works(t)
	}
	if err := nodes[1].cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the paused node is removed", func() bool { return nodes[0].names() == "a alive" })
	removed := time.Now()
	d := "1"
	eventually(t, "the other one has all devices", func() bool { return nodes[0].do(request{Op: "owner", Device: d}).Value == "a" })
	if got := nodes[0].do(request{Op: "ask", Device: d}); got.Value != "a" {
		t.Fatalf("got %+v", got)
	}
	if err := nodes[1].cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	lost := nodes[1].event("lost")
	if lost.Error != ErrRemoved.Error() {
		t.Errorf("got %+v", lost)
	}
	if !lost.LastHandled.Before(removed) {
		t.Errorf("a message was handled at %s, after the removal was seen at %s", lost.LastHandled, removed)
	}
	if code := nodes[1].exitCode(); code != 4 {
		t.Errorf("exit code %d", code)
	}
	nodes[0].works(t)
	nodes[0].unload(t)
}

func TestOutageOfNATSRemovesNobody(t *testing.T) {
	t.Parallel()
	const lease = 2 * time.Second
	dir := t.TempDir()
	s := natsServer(t, dir, 0)
	port := s.Addr().(*net.TCPAddr).Port
	nodes := startCluster(t, s.ClientURL(), lease, "a", "b", "c")
	before := nodes[0].do(request{Op: "members"}).Members
	s.Shutdown()
	s.WaitForShutdown()
	down := time.Now()
	for _, p := range nodes {
		eventually(t, "suspended", func() bool { return p.try(request{Op: "suspended"}).Code == "node_suspended" })
	}
	if got := nodes[0].try(request{Op: "ask", Device: "1"}); got.Code != "node_suspended" {
		t.Errorf("a suspended node answers %+v", got)
	}
	frame := nodes[0].begin(request{Op: "frame", Device: deviceOf(nodes[0], "a"), Timeout: 20 * time.Second})
	<-time.After(time.Until(down.Add(6 * time.Second)))
	natsServer(t, dir, port)
	for _, p := range nodes {
		eventually(t, "not suspended any more", func() bool { return p.try(request{Op: "suspended"}).Error == "" })
	}
	if got := nodes[0].wait(frame); got.Error != "" {
		t.Errorf("frame of a suspended node: %s", got.Error)
	}
	back := time.Now()
	eventually(t, "some leases have passed", func() bool { return time.Since(back) > 2*lease+lease/2 })
	after := nodes[0].do(request{Op: "members"}).Members
	if len(after) != len(before) {
		t.Fatalf("got %+v", after)
	}
	for i := range after {
		if after[i].ID != before[i].ID || after[i].State != StateAlive {
			t.Errorf("got %+v, want %+v", after[i], before[i])
		}
	}
	for _, p := range nodes {
		if got := p.names(); got != "a alive, b alive, c alive" {
			t.Errorf("node %s sees %s", p.name, got)
		}
		for _, owner := range nodes {
			if got := p.do(request{Op: "ask", Device: deviceOf(p, owner.name)}).Value; got != owner.name {
				t.Errorf("%s asks %s: %q", p.name, owner.name, got)
			}
		}
	}
}

func TestNodeJoinsUnderLoad(t *testing.T) {
	const lease = 5 * time.Second // nobody is to be suspended on a busy machine
	s := natsServer(t, t.TempDir(), 0)
	nodes := startCluster(t, s.ClientURL(), lease, "a", "b")
	for _, p := range nodes {
		p.do(request{Op: "load", Workers: 2, Devices: 300})
	}
	for _, p := range nodes {
		p.works(t)
	}
	c := spawn(t, childSpec{Name: "c", NATS: s.ClientURL(), Lease: lease, Limit: time.Minute, Idle: true})
	c.event("started")
	eventually(t, "c is seen", func() bool { return nodes[0].names() == "a alive, b alive, c joining" })
	for _, m := range nodes[0].do(request{Op: "members"}).Members {
		if m.Name == "c" && m.Shards > 0 {
			t.Errorf("owns something before it is active: %+v", m)
		}
	}
	c.do(request{Op: "activate"})
	d := deviceOf(c, "c")
	for _, p := range nodes {
		eventually(t, "c is active", func() bool { return p.names() == "a alive, b alive, c alive" })
		if got := p.do(request{Op: "ask", Device: d}).Value; got != "c" {
			t.Errorf("answered by %q", got)
		}
	}
	for _, p := range nodes {
		p.works(t)
		if sum := p.unload(t); len(sum.Errors) > 0 {
			t.Errorf("node %s: requests failed", p.name)
		}
	}
}

func TestNodeLeavesUnderLoad(t *testing.T) {
	const lease = 5 * time.Second // nobody is to be suspended on a busy machine
	s := natsServer(t, t.TempDir(), 0)
	nodes := startCluster(t, s.ClientURL(), lease, "a", "b", "c")
	for _, p := range nodes {
		p.do(request{Op: "load", Workers: 2, Devices: 300})
	}
	for _, p := range nodes {
		p.works(t)
	}
	d := deviceOf(nodes[0], "c")
	if got := nodes[0].do(request{Op: "ask", Device: d}).Value; got != "c" {
		t.Fatalf("answered by %q", got)
	}
	if sum := nodes[2].unload(t); len(sum.Errors) > 0 {
		t.Errorf("requests failed")
	}
	took := nodes[2].do(request{Op: "leave"}).Took
	t.Logf("left within %s", took)
	if code := nodes[2].exitCode(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	for _, p := range nodes[:2] {
		eventually(t, "c is gone", func() bool { return p.names() == "a alive, b alive" })
		if got := p.do(request{Op: "ask", Device: d}).Value; got == "c" {
			t.Errorf("answered by %q", got)
		}
	}
	for _, p := range nodes[:2] {
		p.works(t)
		if sum := p.unload(t); len(sum.Errors) > 0 {
			t.Errorf("node %s: requests failed", p.name)
		}
	}
}

// Two nodes work while others are killed, leave, pause and come back under their old names.
func TestNodesComeAndGoUnderLoad(t *testing.T) {
	t.Parallel()
	rounds := 1
	if os.Getenv("LORIKEET_TEST_THOROUGH") != "" {
		rounds = 12
	}
	const lease = 3 * time.Second
	s := natsServer(t, t.TempDir(), 0)
	nodes := startCluster(t, s.ClientURL(), lease, "a", "b", "c", "d")
	workers, others := nodes[:2], nodes[2:]
	for _, p := range workers {
		p.do(request{Op: "load", Workers: 2, Devices: 300})
	}
	for round := range rounds {
		for i, p := range others {
			for _, w := range workers {
				w.works(t)
			}
			switch (round + i) % 3 {
			case 0:
				if err := p.cmd.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			case 1:
				p.do(request{Op: "leave"})
			case 2:
				if err := p.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
					t.Fatal(err)
				}
				eventually(t, "the paused node is removed", func() bool { return !strings.Contains(workers[0].names(), p.name) })
				if err := p.cmd.Process.Signal(syscall.SIGCONT); err != nil {
					t.Fatal(err)
				}
				p.event("lost")
			}
			<-p.ended
			others[i] = spawn(t, childSpec{Name: p.name, NATS: s.ClientURL(), Lease: lease, Limit: time.Minute})
			others[i].event("started")
			for _, w := range workers {
				eventually(t, "all are back", func() bool { return w.names() == "a alive, b alive, c alive, d alive" })
			}
		}
	}
	for _, p := range workers {
		p.works(t)
		for what, n := range p.unload(t).Errors {
			if what != "node.command device_busy" || n > 4*rounds { // in flight when a node was killed or paused: one a worker
				t.Errorf("node %s: %d errors of %s", p.name, n, what)
			}
		}
	}
}

// proxy is a TCP connection that can be cut.
type proxy struct {
	listener net.Listener
	target   string
	mu       sync.Mutex
	cut      bool
	conns    []net.Conn
}

func startProxy(t *testing.T, target string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{listener: l, target: target}
	go p.serve()
	t.Cleanup(func() { _ = l.Close(); p.setCut(true) })
	return p
}

func (p *proxy) serve() {
	for {
		in, err := p.listener.Accept()
		if err != nil {
			return
		}
		out, err := net.Dial("tcp", p.target)
		p.mu.Lock()
		if err != nil || p.cut {
			p.mu.Unlock()
			_ = in.Close()
			if err == nil {
				_ = out.Close()
			}
			continue
		}
		p.conns = append(p.conns, in, out)
		p.mu.Unlock()
		for _, pair := range [][2]net.Conn{{in, out}, {out, in}} {
			go func() {
				_, _ = io.Copy(pair[0], pair[1]) // ends with either
				_ = pair[0].Close()
			}()
		}
	}
}

func (p *proxy) setCut(cut bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut = cut
	for _, c := range p.conns {
		_ = c.Close()
	}
	p.conns = nil
}

func TestNodeCutOffFromNATSEnds(t *testing.T) {
	for _, c := range []struct {
		name  string
		limit time.Duration
		heal  bool
		want  error
	}{
		{"and comes back", time.Minute, true, ErrRemoved},
		{"for longer than the limit", 3 * time.Second, false, ErrUnreachable},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			const lease = time.Second
			s := natsServer(t, t.TempDir(), 0)
			cut := startProxy(t, s.Addr().String())
			a := spawn(t, childSpec{Name: "a", NATS: s.ClientURL(), Lease: lease, Limit: time.Minute})
			b := spawn(t, childSpec{Name: "b", NATS: "nats://" + cut.listener.Addr().String(), Lease: lease, Limit: c.limit})
			a.event("started")
			b.event("started")
			eventually(t, "both are alive", func() bool { return a.names() == "a alive, b alive" })
			d := deviceOf(a, "b")
			cut.setCut(true)
			eventually(t, "b is suspended", func() bool { return b.try(request{Op: "ask", Device: d}).Code == "node_suspended" })
			eventually(t, "b is removed", func() bool { return a.names() == "a alive" })
			eventually(t, "a has b's devices", func() bool { return a.do(request{Op: "owner", Device: d}).Value == "a" })
			if got := a.do(request{Op: "ask", Device: d}).Value; got != "a" {
				t.Errorf("answered by %q", got)
			}
			if c.heal {
				cut.setCut(false)
			}
			if got := b.event("lost"); got.Error != c.want.Error() {
				t.Errorf("got %+v, want %v", got, c.want)
			}
			if code := b.exitCode(); code != 4 {
				t.Errorf("exit code %d", code)
			}
		})
	}
}

func TestNodeOfAnotherTimeIsRefused(t *testing.T) {
	t.Parallel()
	s := natsServer(t, t.TempDir(), 0)
	a := spawn(t, childSpec{Name: "a", NATS: s.ClientURL(), Lease: time.Second, Limit: time.Minute, Version: "1.2", Protocol: 3, Oldest: 2})
	a.event("started")
	b := spawn(t, childSpec{Name: "b", NATS: s.ClientURL(), Lease: time.Second, Limit: time.Minute, Version: "2.0", Protocol: 5, Oldest: 4})
	got := b.event("refused")
	want := "this node is Lorikeet 2.0 and speaks cluster protocol 4 to 5, node a is Lorikeet 1.2 and speaks 2 to 3: upgrade one release at a time"
	if got.Error != want {
		t.Errorf("got %q", got.Error)
	}
	c := spawn(t, childSpec{Name: "c", NATS: s.ClientURL(), Lease: time.Second, Limit: time.Minute, Version: "1.3", Protocol: 4, Oldest: 3})
	c.event("started")
}

func TestNameInUseIsRefusedAndOneOfTheDeadIsTaken(t *testing.T) {
	t.Parallel()
	const lease = time.Second
	s := natsServer(t, t.TempDir(), 0)
	a := startCluster(t, s.ClientURL(), lease, "a", "b")[0]
	twin := spawn(t, childSpec{Name: "a", NATS: s.ClientURL(), Lease: lease, Limit: time.Minute})
	if got := twin.event("refused"); got.Code != "node_name_in_use" {
		t.Errorf("got %+v", got)
	}
	d := deviceOf(a, "a")
	if err := a.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	again := spawn(t, childSpec{Name: "a", NATS: s.ClientURL(), Lease: lease, Limit: time.Minute})
	again.event("started")
	if got := again.do(request{Op: "owner", Device: d}).Value; got != "a" {
		t.Errorf("a node that comes back owns what it owned: got %q", got)
	}
}
