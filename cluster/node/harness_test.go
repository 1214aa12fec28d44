package node

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// natsServer is a NATS server of the test; port 0 takes any.
func natsServer(t testing.TB, dir string, port int) *server.Server {
	t.Helper()
	if port == 0 {
		port = freePort()
	}
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: port, JetStream: true, StoreDir: dir, NoLog: true, NoSigs: true})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	if !s.ReadyForConnections(time.Minute) {
		t.Fatal("NATS server does not start")
	}
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	return s
}

// proc is a node in a process.
type proc struct {
	t      testing.TB
	name   string
	cmd    *exec.Cmd
	in     io.WriteCloser
	events chan response
	ended  chan struct{}
	stderr string // file

	mu      sync.Mutex
	next    int
	waiting map[int]chan response
}

func spawn(t testing.TB, spec childSpec) *proc {
	t.Helper()
	if spec.Listen == "" {
		spec.Listen = "127.0.0.1:0"
	}
	if spec.Version == "" {
		spec.Version, spec.Protocol, spec.Oldest = "1.0", 1, 1
	}
	text, err := json.Marshal(spec)
	if err != nil {
		t.Fatal(err)
	}
	p := &proc{t: t, name: spec.Name, cmd: exec.Command(os.Args[0]), events: make(chan response, 10), ended: make(chan struct{}), waiting: map[int]chan response{}}
	p.cmd.Env = append(os.Environ(), childEnv+"="+string(text), "GORACE=exitcode=0 halt_on_error=0")
	p.stderr = filepath.Join(t.TempDir(), "stderr")
	f, err := os.Create(p.stderr)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	p.cmd.Stderr = f
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go p.read(out)
	t.Cleanup(func() {
		_ = p.cmd.Process.Signal(syscall.SIGKILL) // may have ended
		<-p.ended
		p.check()
	})
	return p
}

// check shows what a node logged if the test failed, and fails it for a data race of ours.
func (p *proc) check() {
	b, err := os.ReadFile(p.stderr)
	if err != nil {
		p.t.Error(err)
	}
	for _, report := range strings.Split(string(b), "==================") {
		if strings.Contains(report, "DATA RACE") && !upstreamRace(report) {
			p.t.Errorf("node %s: %s", p.name, report)
		}
	}
	if strings.Contains(string(b), "panic:") {
		p.t.Errorf("node %s ended in a panic", p.name)
	}
	if p.t.Failed() {
		p.t.Logf("node %s:\n%s", p.name, b)
	}
}

// upstreamRace tells the data races that protoactor has by itself when members come and go: its block list and member list are read without their locks.
func upstreamRace(report string) bool {
	return strings.Contains(report, "remote.(*BlockList)") || strings.Contains(report, "cluster.(*MemberList)")
}

func (p *proc) read(out io.Reader) {
	defer close(p.ended)
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var r response
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			p.t.Errorf("node %s says %q", p.name, lines.Text())
			continue
		}
		if r.Event != "" {
			p.events <- r
			continue
		}
		p.mu.Lock()
		c := p.waiting[r.ID]
		delete(p.waiting, r.ID)
		p.mu.Unlock()
		if c != nil {
			c <- r
		}
	}
	_ = p.cmd.Wait() // the tests look at the exit code
}

func (p *proc) event(want string) response {
	p.t.Helper()
	var r response
	select {
	case r = <-p.events:
	case <-p.ended: // perhaps with a last word
		select {
		case r = <-p.events:
		default:
			p.t.Fatalf("node %s ended, want event %s", p.name, want)
		}
	case <-time.After(90 * time.Second):
		p.t.Fatalf("node %s: no event %s", p.name, want)
	}
	if r.Event != want {
		p.t.Fatalf("node %s: got %+v, want event %s", p.name, r, want)
	}
	return r
}

// begin sends a request; the answer comes on the channel.
func (p *proc) begin(r request) chan response {
	p.t.Helper()
	c := make(chan response, 1)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.next++
	r.ID = p.next
	p.waiting[r.ID] = c
	b, err := json.Marshal(r)
	if err != nil {
		p.t.Fatal(err)
	}
	if _, err := fmt.Fprintf(p.in, "%s\n", b); err != nil {
		p.t.Fatalf("node %s: %v", p.name, err)
	}
	return c
}

func (p *proc) wait(c chan response) response {
	p.t.Helper()
	select {
	case r := <-c:
		return r
	case <-p.ended:
		p.t.Fatalf("node %s ended before it answered", p.name)
	case <-time.After(40 * time.Second):
		p.t.Fatalf("node %s does not answer", p.name)
	}
	return response{}
}

// do sends a request and wants success.
func (p *proc) do(r request) response {
	p.t.Helper()
	out := p.try(r)
	if out.Error != "" {
		p.t.Fatalf("node %s, %+v: %s", p.name, r, out.Error)
	}
	return out
}

func (p *proc) try(r request) response {
	p.t.Helper()
	return p.wait(p.begin(r))
}

// exitCode waits for the end of the process.
func (p *proc) exitCode() int {
	p.t.Helper()
	select {
	case <-p.ended:
		return p.cmd.ProcessState.ExitCode()
	case <-time.After(20 * time.Second):
		p.t.Fatalf("node %s does not end", p.name)
	}
	return -1
}

// names lists the members as a node sees them.
func (p *proc) names() string {
	p.t.Helper()
	var out []string
	for _, m := range p.do(request{Op: "members"}).Members {
		out = append(out, m.Name+" "+string(m.State))
	}
	return strings.Join(out, ", ")
}

// eventually asks until the condition holds.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	const limit = time.Minute // only a test that fails waits for so long
	deadline := time.Now().Add(limit)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s", limit, what)
		}
		<-time.After(10 * time.Millisecond)
	}
}

// cluster3 starts nodes and waits until each sees all.
func startCluster(t *testing.T, url string, lease time.Duration, names ...string) []*proc {
	t.Helper()
	var out []*proc
	for _, name := range names {
		out = append(out, spawn(t, childSpec{Name: name, NATS: url, Lease: lease, Limit: time.Minute}))
	}
	var want []string
	for _, name := range names {
		want = append(want, name+" alive")
	}
	for _, p := range out {
		p.event("started")
	}
	for _, p := range out {
		eventually(t, "all nodes alive", func() bool { return p.names() == strings.Join(want, ", ") })
	}
	return out
}

// deviceOf finds a device that a node owns.
func deviceOf(p *proc, owner string) string {
	p.t.Helper()
	for i := range 1000 {
		d := fmt.Sprint("dev-", i)
		if p.do(request{Op: "owner", Device: d}).Value == owner {
			return d
		}
	}
	p.t.Fatalf("node %s owns nothing", owner)
	return ""
}
