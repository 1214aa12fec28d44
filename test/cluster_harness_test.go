package test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"lorikeet/cmd/lorikeet/simulator"
)

// leaseLost is the exit code of a node that may no longer act for the cluster. Its supervisor starts it again.
const leaseLost = 75

// place is where a node runs and listens. Ports are fixed, so that a node is found again after a restart.
type place struct {
	prefix                   []string // see process.prefix
	rest, mqtt, udp, cluster string   // host:port
}

// onLoopback gives a place with free ports on this machine, below those that the kernel gives to outgoing connections: a node that is started again must
// find them free.
func onLoopback(t testing.TB) place {
	t.Helper()
	var ports []string
	for len(ports) < 4 {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 10000+rand.IntN(20000)))
		if err != nil {
			continue // it is taken
		}
		defer l.Close() // all are held until all are known
		ports = append(ports, l.Addr().String())
	}
	return place{rest: ports[0], mqtt: ports[1], udp: ports[2], cluster: ports[3]}
}

// node is one Lorikeet of a cluster, under a supervisor that starts it again when it ends, as an init system does.
type node struct {
	name string
	c    *nodes
	env  []string
	done chan struct{} // closed when the supervisor has ended

	mu       sync.Mutex
	p        *process
	place    place
	ready    bool
	expected bool // the end of the present process is our doing
	starts   int
	logs     []*lockedBuffer // of each start that is over or ready
}

// nodes is a cluster as seen from outside.
type nodes struct {
	t    testing.TB
	dir  string
	ctx  context.Context
	env  []string // of every node
	all  []*node
	mu   sync.Mutex
	odd  []string // ends of processes that nobody expects
	ends map[int]int
}

const clusterKEK = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"

// sharedNATS is the environment of nodes that use the NATS servers at url.
func sharedNATS(url string, replicas int) []string {
	return []string{"LORIKEET_CLUSTER_URL=" + url, fmt.Sprintf("LORIKEET_CLUSTER_REPLICAS=%d", replicas)}
}

// natsRoute is where the embedded NATS server of a node waits for those of the others, if there is one.
func natsRoute(p place) string {
	host, _, _ := net.SplitHostPort(p.cluster)
	return host + ":6222"
}

// startNodes starts a cluster, a node in each place, and waits until all are ready. env says which NATS servers it uses.
func startNodes(t testing.TB, env []string, places ...place) *nodes {
	t.Helper()
	if _, err := binary(); err != nil { // now: the build may take longer than a node may take to start
		t.Fatal(err)
	}
	dir := t.TempDir() // before the clean-up that ends the nodes, so that it is removed after them
	ctx, cancel := context.WithCancel(context.Background())
	c := &nodes{t: t, dir: dir, ctx: ctx, ends: map[int]int{}, env: append([]string{"LORIKEET_CLUSTER_LEASE=2s", "LORIKEET_KEY_ENCRYPTION_KEY=" + clusterKEK}, env...)}
	t.Cleanup(func() {
		cancel()
		for _, n := range c.all {
			n.end()
		}
		for _, n := range c.all {
			n.show()
		}
	})
	for _, p := range places {
		c.add(p)
	}
	c.waitReady()
	return c
}

// add starts one more node.
func (c *nodes) add(at place) *node {
	n := &node{name: fmt.Sprintf("n%d", len(c.all)+1), c: c, place: at, done: make(chan struct{})}
	n.env = append(slices.Clone(c.env), "LORIKEET_CLUSTER_NODE="+n.name, "LORIKEET_CLUSTER_LISTEN="+at.cluster, "LORIKEET_CLUSTER_ADVERTISE="+at.cluster,
		"LORIKEET_EMBEDDED_NATS_CLUSTER_LISTEN="+natsRoute(at))
	c.all = append(c.all, n)
	go n.supervise(filepath.Join(c.dir, n.name))
	return n
}

func (n *node) supervise(dir string) {
	defer close(n.done)
	for n.c.ctx.Err() == nil {
		p := &process{t: n.c.t, dir: dir, prefix: n.place.prefix, rest: n.place.rest, mqtt: n.place.mqtt, udp: n.place.udp}
		n.mu.Lock()
		n.p, n.expected = p, false
		n.starts++
		n.mu.Unlock()
		err := n.launch(p)
		if err != nil {
			n.pause() // e.g. it can't reach NATS
			continue
		}
		n.set(true)
		err = <-p.ended
		n.set(false)
		n.ended(err)
		n.pause()
	}
}

// launch starts the process. The log is kept for the end of the test.
func (n *node) launch(p *process) error {
	err := p.launch(n.env...)
	n.mu.Lock()
	defer n.mu.Unlock()
	if p.log != nil {
		n.logs = append(n.logs, p.log)
	}
	return err
}

// pause is the time that a supervisor leaves between two starts.
func (n *node) pause() {
	t := time.NewTimer(500 * time.Millisecond)
	defer t.Stop()
	select {
	case <-t.C:
	case <-n.c.ctx.Done():
	}
}

func (n *node) set(ready bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.ready = ready
}

// ended notes how a process ended that had been ready.
func (n *node) ended(err error) {
	n.mu.Lock()
	expected, log := n.expected, n.p.log
	n.mu.Unlock()
	code := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		code = exit.ExitCode()
	}
	n.c.mu.Lock()
	defer n.c.mu.Unlock()
	n.c.ends[code]++
	if n.c.ctx.Err() == nil && !expected && code != leaseLost {
		n.c.odd = append(n.c.odd, fmt.Sprintf("node %s ended by itself with %d (%v):\n%s", n.name, code, err, tail(log.String())))
	}
}

// signal sends a signal to the process of the node if there is one.
func (n *node) signal(s syscall.Signal) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.p == nil {
		return
	}
	if s == syscall.SIGKILL || s == syscall.SIGTERM {
		n.expected = true
	}
	if running := n.p.running.Load(); running != nil {
		_ = running.Signal(s) // fails if it has ended
	}
}

// end kills the process, also one that is just being started, and returns when the supervisor has ended.
func (n *node) end() {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		n.signal(syscall.SIGCONT)
		n.signal(syscall.SIGKILL)
		select {
		case <-n.done:
			return
		case <-tick.C:
		}
	}
}

// isReady says how often the node was started and whether it is ready now.
func (n *node) isReady() (starts int, ready bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.starts, n.ready
}

// show writes the node's logs: shortened if the test has failed, and whole into the folder that LORIKEET_TEST_LOGS names.
func (n *node) show() {
	n.mu.Lock()
	defer n.mu.Unlock()
	dir := os.Getenv("LORIKEET_TEST_LOGS")
	for i, log := range n.logs {
		if n.c.t.Failed() {
			n.c.t.Logf("log of node %s, start %d:\n%s", n.name, i+1, tail(log.String()))
		}
		if dir == "" {
			continue
		}
		name := fmt.Sprintf("%s-%s-%d.log", strings.NewReplacer("/", "-", " ", "_").Replace(n.c.t.Name()), n.name, i+1)
		if err := os.WriteFile(filepath.Join(dir, name), []byte(log.String()), 0o644); err != nil {
			n.c.t.Error(err)
		}
	}
}

// tail shortens a log to its beginning and its end.
func tail(log string) string {
	const head, limit = 3 << 10, 7 << 10
	if len(log) > limit {
		return log[:head] + "\n…\n" + log[len(log)-(limit-head):]
	}
	return log
}

// waitReady returns when every node is ready.
func (c *nodes) waitReady() {
	c.t.Helper()
	c.until("all nodes ready", func() bool {
		for _, n := range c.all {
			if _, ready := n.isReady(); !ready {
				return false
			}
		}
		return true
	})
}

// until waits for a condition, within limits.
func (c *nodes) until(what string, done func() bool) {
	c.t.Helper()
	tick, limit := time.NewTicker(20*time.Millisecond), time.After(2*patience)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-limit:
			c.t.Fatalf("never: %s", what)
		}
	}
}

// addresses gives one kind of address of all nodes, with commas between.
func (c *nodes) addresses(scheme string, of func(place) string) string {
	var out []string
	for _, n := range c.all {
		out = append(out, scheme+of(n.place))
	}
	return strings.Join(out, ",")
}

// checkEnds fails the test if a node ended in a way that it must not, or says that something is wrong with its code.
func (c *nodes) checkEnds() {
	c.t.Helper()
	c.mu.Lock()
	for _, text := range c.odd {
		c.t.Error(text)
	}
	c.mu.Unlock()
	for _, n := range c.all {
		n.mu.Lock()
		logs := slices.Clone(n.logs)
		n.mu.Unlock()
		for _, log := range logs {
			for _, sign := range []string{"panic: ", "fatal error: ", "WARNING: DATA RACE"} {
				if text := log.String(); strings.Contains(text, sign) {
					i := strings.Index(text, sign)
					c.t.Errorf("node %s: %s", n.name, text[i:min(i+4<<10, len(text))])
				}
			}
		}
	}
}

// load is what the simulator does with a cluster, and what it knows so far.
type load struct {
	c     *nodes
	cfg   simulator.Config
	marks chan simulator.Mark
	stop  chan struct{}
	done  chan simulator.Report
	out   *lockedBuffer

	mu       sync.Mutex
	accepted map[string]int
}

// startLoad lets devices send until the load is finished. webhooks is the address that the nodes reach. A device must not send before the windows of its
// last uplink are closed, else answers may overtake each other: leave each 3 s.
func (c *nodes) startLoad(webhooks string, devices int, rate float64, change func(*simulator.Config)) *load {
	l := &load{c: c, marks: make(chan simulator.Mark), stop: make(chan struct{}), done: make(chan simulator.Report, 1), out: &lockedBuffer{}, accepted: map[string]int{}}
	cfg := simulator.DefaultConfig()
	cfg.UDP, cfg.HTTP = c.addresses("", func(p place) string { return p.udp }), c.addresses("http://", func(p place) string { return p.rest })
	cfg.MQTT, cfg.AdminKey, cfg.ApplicationID = c.addresses("tcp://", func(p place) string { return p.mqtt }), adminKey, "cluster-app"
	cfg.Devices, cfg.Rate, cfg.Duration, cfg.Activation, cfg.Gateways, cfg.Copies = devices, rate, time.Hour, simulator.ABP, 6, 2
	cfg.Confirmed, cfg.DownlinkEvery, cfg.KeepAlive, cfg.Drain = 0.3, 10, time.Second, 20*time.Second
	cfg.WebhookListen, cfg.Marks, cfg.Stop = webhooks, l.marks, l.stop
	cfg.Accepted = func(device string) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.accepted[device]++
	}
	if change != nil {
		change(&cfg)
	}
	l.cfg = cfg
	ctx, cancel := context.WithCancel(c.ctx)
	c.t.Cleanup(cancel)
	go func() {
		r, err := simulator.Run(ctx, cfg, l.out)
		if err != nil && !errors.Is(err, context.Canceled) {
			c.t.Errorf("simulator: %v\n%s", err, l.out)
		}
		l.done <- r
	}()
	return l
}

// waitEach returns when n more uplinks of each device are known to be accepted than now.
func (l *load) waitEach(n int) {
	l.c.t.Helper()
	l.mu.Lock()
	before := map[string]int{}
	for device, count := range l.accepted {
		before[device] = count
	}
	l.mu.Unlock()
	l.c.until(fmt.Sprintf("%d more uplinks of each device accepted", n), func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		if len(l.accepted) < l.cfg.Devices {
			return false
		}
		for device, count := range l.accepted {
			if count < before[device]+n {
				return false
			}
		}
		return true
	})
}

// mark says that something is done to the cluster now.
func (l *load) mark(name string) {
	l.c.t.Helper()
	select {
	case l.marks <- simulator.Mark{Name: name, At: time.Now()}:
	case <-l.c.ctx.Done():
	case <-time.After(patience):
		l.c.t.Fatal("the simulator does not run")
	}
}

// finish ends the load, waits for the last events and gives the verdict.
func (l *load) finish() simulator.Report {
	l.c.t.Helper()
	close(l.stop)
	select {
	case r := <-l.done:
		return r
	case <-time.After(l.cfg.Drain + patience):
		l.c.t.Fatal("the simulator does not end")
		return simulator.Report{}
	}
}

// check fails the test if the report says that something was lost, repeated or used twice.
func (l *load) check(r simulator.Report) {
	t := l.c.t
	t.Helper()
	for _, p := range r.Problems() {
		t.Error(p)
	}
	if r.Verdict == nil || r.Verdict.Accepted == 0 || r.Acks == 0 || r.PushedReceived == 0 {
		t.Error("the load proves nothing: no uplink accepted, acknowledged or answered")
	}
	if t.Failed() || testing.Verbose() {
		var text strings.Builder
		if err := r.WriteTable(&text); err != nil {
			t.Error(err)
		}
		t.Log(text.String())
	}
}
