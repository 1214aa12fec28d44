//go:build faults

package test

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"lorikeet/cmd/lorikeet/simulator"
	"lorikeet/messages"
)

// faultRow is what one scenario came to.
type faultRow struct {
	name   string
	report simulator.Report
	ends   map[int]int // processes of nodes that ended, by exit code
	failed bool
}

// rig is a cluster under load on machines of its own.
type rig struct {
	*nodes
	t        *testing.T
	nats     []*natsServer
	natsURL  string
	machines []machine
	load     *load
}

// scenario is one thing that is done to a cluster under load.
type scenario struct {
	name string
	nats int  // servers; 0: embedded in the nodes
	join bool // the fault comes while devices join; else when all have sent
	do   func(r *rig)
}

// hold is how long a fault lasts that is healed: long enough that the lease of a node (2 s) is lost for sure.
func hold(d time.Duration) {
	t := time.NewTimer(d) // the fault is the passing of time
	<-t.C
}

var scenarios = []scenario{
	{"kill -9 of a node", 1, false, func(r *rig) {
		r.load.mark("kill -9")
		r.all[0].signal(syscall.SIGKILL)
	}},
	{"embedded NATS: kill -9 of a node, and of its NATS server with it", 0, false, func(r *rig) {
		r.load.mark("kill -9")
		r.restart(r.all[0], syscall.SIGKILL)
	}},
	{"embedded NATS: rolling restart of all nodes", 0, false, func(r *rig) {
		for _, n := range r.all {
			r.load.mark("SIGTERM " + n.name)
			r.restart(n, syscall.SIGTERM)
			r.load.waitEach(2)
		}
	}},
	{"embedded NATS: a node cut off from everything for 15 s", 0, false, func(r *rig) {
		r.load.mark("cut")
		r.machines[2].cut(r.t, "back")
		r.machines[2].cut(r.t, "front")
		hold(15 * time.Second)
		r.load.mark("healed")
		r.machines[2].heal(r.t, "back")
		r.machines[2].heal(r.t, "front")
	}},
	{"kill -9 of one node after the other, six times in all", 1, false, func(r *rig) {
		for i := range 6 {
			n := r.all[i%3]
			r.load.mark("kill -9 " + n.name)
			r.restart(n, syscall.SIGKILL)
		}
	}},
	{"kill -9 of all nodes at once", 1, false, func(r *rig) {
		r.load.mark("kill -9")
		for _, n := range r.all {
			n.signal(syscall.SIGKILL)
		}
	}},
	{"kill -9 of a node while devices join", 1, true, func(r *rig) {
		r.load.mark("kill -9")
		r.all[0].signal(syscall.SIGKILL)
	}},
	{"SIGSTOP of a node for 10 s, then SIGCONT", 1, false, func(r *rig) {
		r.load.mark("SIGSTOP")
		r.all[0].signal(syscall.SIGSTOP)
		hold(10 * time.Second)
		r.load.mark("SIGCONT")
		r.all[0].signal(syscall.SIGCONT)
	}},
	{"a node cut off from NATS and the other nodes for 15 s; radio gateways still reach it", 1, false, func(r *rig) {
		r.load.mark("cut")
		r.machines[0].cut(r.t, "back")
		hold(15 * time.Second)
		r.load.mark("healed")
		r.machines[0].heal(r.t, "back")
	}},
	{"a node cut off from everything for 15 s", 1, false, func(r *rig) {
		r.load.mark("cut")
		r.machines[0].cut(r.t, "back")
		r.machines[0].cut(r.t, "front")
		hold(15 * time.Second)
		r.load.mark("healed")
		r.machines[0].heal(r.t, "back")
		r.machines[0].heal(r.t, "front")
	}},
	{"a fourth node joins", 1, false, func(r *rig) {
		m := newMachine(r.t, "n4", 14)
		r.load.mark("join")
		r.machines = append(r.machines, m)
		r.add(m.place())
		r.waitReady()
	}},
	{"rolling restart of all nodes", 1, false, func(r *rig) {
		for _, n := range r.all {
			r.load.mark("SIGTERM " + n.name)
			r.restart(n, syscall.SIGTERM)
			r.load.waitEach(2)
		}
	}},
	{"kill -9 of the NATS server (of three) that leads the busiest stream", 3, false, func(r *rig) {
		name, stream := busiestLeader(r.t, r.natsURL)
		r.t.Logf("%s leads %s", name, stream)
		for _, s := range r.nats {
			if s.name == name {
				r.load.mark("kill -9 " + name)
				s.kill()
				r.load.waitEach(2)
				s.start()
			}
		}
	}},
	{"the NATS server (of three) that leads the busiest stream is cut off for 15 s", 3, false, func(r *rig) {
		name, stream := busiestLeader(r.t, r.natsURL)
		r.t.Logf("%s leads %s", name, stream)
		for _, s := range r.nats {
			if s.name == name {
				r.load.mark("cut " + name)
				s.cut(r.t, "back")
				hold(15 * time.Second)
				r.load.mark("healed")
				s.heal(r.t, "back")
			}
		}
	}},
	{"the only NATS server stands still for 6 s (SIGSTOP)", 1, false, func(r *rig) {
		r.load.mark("SIGSTOP")
		r.nats[0].signal(syscall.SIGSTOP)
		hold(6 * time.Second)
		r.load.mark("SIGCONT")
		r.nats[0].signal(syscall.SIGCONT)
	}},
	{"the only NATS server is killed and started 6 s later", 1, false, func(r *rig) {
		r.load.mark("kill -9")
		r.nats[0].kill()
		hold(6 * time.Second)
		r.load.mark("started")
		r.nats[0].start()
	}},
	{"kill -9 of two of three nodes at once", 1, false, func(r *rig) {
		r.load.mark("kill -9")
		for _, n := range r.all[:2] {
			n.signal(syscall.SIGKILL)
		}
	}},
	{"embedded NATS: kill -9 of two of three nodes at once", 0, false, func(r *rig) {
		r.load.mark("kill -9")
		for _, n := range r.all[:2] {
			n.signal(syscall.SIGKILL)
		}
	}},
	{"kill -9 of a node every 5 s in turn for a minute, wherever it is in its start", 1, false, func(r *rig) {
		for i := range 12 {
			r.load.mark("kill -9")
			r.all[i%3].signal(syscall.SIGKILL)
			hold(5 * time.Second)
		}
	}},
	{"SIGSTOP of one node after the other for about the lease, nine times in all", 1, false, func(r *rig) {
		for i := range 9 {
			n := r.all[i%3]
			r.load.mark("SIGSTOP " + n.name)
			n.signal(syscall.SIGSTOP)
			hold(1900*time.Millisecond + time.Duration(i)*50*time.Millisecond)
			n.signal(syscall.SIGCONT)
			r.load.waitEach(1)
		}
	}},
	{"SIGSTOP of a node for 30 s, then SIGCONT", 1, false, func(r *rig) {
		r.load.mark("SIGSTOP")
		r.all[0].signal(syscall.SIGSTOP)
		hold(30 * time.Second)
		r.load.mark("SIGCONT")
		r.all[0].signal(syscall.SIGCONT)
	}},
	{"two nodes can't reach each other for 15 s; both reach NATS", 1, false, func(r *rig) {
		r.load.mark("cut")
		r.machines[0].unreach(r.t, r.machines[1])
		r.machines[1].unreach(r.t, r.machines[0])
		hold(15 * time.Second)
		r.load.mark("healed")
		r.machines[0].reach(r.t, r.machines[1])
		r.machines[1].reach(r.t, r.machines[0])
	}},
	{"packets of one node to another get lost for 15 s, those of the other way arrive", 1, false, func(r *rig) {
		r.load.mark("cut")
		r.machines[0].unreach(r.t, r.machines[1])
		hold(15 * time.Second)
		r.load.mark("healed")
		r.machines[0].reach(r.t, r.machines[1])
	}},
	{"packets of a node to NATS get lost for 15 s, those of the other way arrive", 1, false, func(r *rig) {
		r.load.mark("cut")
		r.machines[0].unreach(r.t, r.nats[0].machine)
		hold(15 * time.Second)
		r.load.mark("healed")
		r.machines[0].reach(r.t, r.nats[0].machine)
	}},
	{"all NATS servers (three) are killed and started 4 s later", 3, false, func(r *rig) {
		r.load.mark("kill -9")
		for _, s := range r.nats {
			s.kill()
		}
		hold(4 * time.Second)
		r.load.mark("started")
		for _, s := range r.nats {
			s.start()
		}
	}},
}

// TestClusterFaults does each fault to a cluster of three nodes under load, and lets the judge look for what was lost, repeated under another name or used
// twice. Times are reported, not judged. LORIKEET_FAULTS_TABLE names a file for the table, LORIKEET_FAULTS_ONLY a part of a scenario's name.
func TestClusterFaults(t *testing.T) {
	if !inSandbox(t) {
		return
	}
	only := os.Getenv("LORIKEET_FAULTS_ONLY")
	var rows []faultRow
	for _, s := range scenarios {
		if !strings.Contains(s.name, only) {
			continue
		}
		t.Run(s.name, func(t *testing.T) {
			row := faultRow{name: s.name, failed: true}
			defer func() { rows = append(rows, row) }()
			row.report, row.ends = s.run(t)
			row.failed = t.Failed()
		})
	}
	table := faultTable(rows)
	fmt.Print(table)
	if path := os.Getenv("LORIKEET_FAULTS_TABLE"); path != "" {
		if err := os.WriteFile(path, []byte(table), 0o644); err != nil {
			t.Error(err)
		}
	}
}

func (s scenario) run(t *testing.T) (simulator.Report, map[int]int) {
	r := &rig{t: t}
	if s.nats > 0 {
		r.nats, r.natsURL = startNATSServers(t, s.nats)
	}
	var places []place
	for i := range 3 {
		m := newMachine(t, fmt.Sprintf("n%d", i+1), 11+i)
		r.machines, places = append(r.machines, m), append(places, m.place())
	}
	if s.nats > 0 {
		r.nodes = startNodes(t, sharedNATS(r.natsURL, s.nats), places...)
	} else {
		r.nodes = startNodes(t, embeddedNATS(places), places...)
	}
	var joined atomic.Int64
	r.load = r.startLoad("10.123.0.1:0", 300, 100, func(cfg *simulator.Config) {
		if s.join {
			cfg.Activation, cfg.JoinRate, cfg.JoinAttempts = simulator.OTAA, 20, 20
			cfg.Event = func(topic string, _ []byte) {
				if strings.HasSuffix(topic, "/join") {
					joined.Add(1)
				}
			}
		}
		cfg.Drain = time.Minute      // a webhook that has moved often has much to catch up with
		cfg.Region = simulator.US915 // no duty cycle: more downlinks
		cfg.Formatter = messages.Formatter{Kind: messages.FormatterCayenneLPP}
	})
	if s.join {
		r.until("some devices joined", func() bool { return joined.Load() >= 40 })
	} else {
		r.load.waitEach(3)
	}
	s.do(r)
	r.load.waitEach(2)
	r.waitReady()
	r.load.waitEach(4)
	report := r.load.finish()
	r.load.check(report)
	r.checkEnds()
	r.nodes.mu.Lock()
	defer r.nodes.mu.Unlock()
	return report, maps.Clone(r.ends)
}

// embeddedNATS is the environment of nodes that run NATS servers themselves.
func embeddedNATS(places []place) []string {
	var peers []string
	for _, p := range places {
		peers = append(peers, natsRoute(p))
	}
	return []string{"LORIKEET_CLUSTER_URL=embedded", "LORIKEET_CLUSTER_REPLICAS=3", "LORIKEET_EMBEDDED_NATS_PEERS=" + strings.Join(peers, ","), "LORIKEET_EMBEDDED_NATS_SECRET=embedded-secret-of-the-tests"}
}

// restart ends the process of a node and returns when its next one is ready.
func (r *rig) restart(n *node, s syscall.Signal) {
	r.t.Helper()
	before, _ := n.isReady()
	n.signal(s)
	r.until(n.name+" runs again", func() bool { starts, ready := n.isReady(); return ready && starts > before })
}

// faultTable writes the rows as Markdown. Outages are those of the whole run, first acceptances are counted from the first mark, where the fault
// began; a device sends each 3 s, so their median is 1.5 s if nothing is interrupted.
func faultTable(rows []faultRow) string {
	var b bytes.Buffer
	fmt.Fprintln(&b, "| fault | accepted | lost | downlinks lost | published twice | out of order | FCntDown reused or back | repeated deliveries | outage of a device: median / p99 / max | devices interrupted: how many, median | first accepted after the fault: median / max | nodes ended, by exit code |")
	fmt.Fprintln(&b, "|---|---|---|---|---|---|---|---|---|---|---|---|")
	for _, r := range rows {
		v := r.report.Verdict
		if v == nil || len(v.Marks) == 0 {
			fmt.Fprintf(&b, "| %s | did not run to its end |\n", r.name)
			continue
		}
		name, m := r.name, v.Marks[0]
		if r.failed {
			name += " (**failed**)"
		}
		fmt.Fprintf(&b, "| %s | %d | %d | %d | %d | %d | %d | %d | %s / %s / %s | %d, %s | %s / %s | %s |\n", name, v.Accepted, v.Lost, v.PushesLost, v.PublishedTwice, v.OutOfOrder, r.report.FCntDownReused+r.report.Rejected[simulator.FCntTooLow], v.Repeated,
			seconds(v.Outage.Median), seconds(v.Outage.P99), seconds(v.Outage.Max), v.Interrupted.Devices, seconds(v.Interrupted.Median), seconds(m.First.Median), seconds(m.First.Max), exits(r.ends))
	}
	return b.String()
}

func seconds(s simulator.Seconds) string { return fmt.Sprintf("%.2f s", time.Duration(s).Seconds()) }

func exits(ends map[int]int) string {
	var out []string
	for _, code := range slices.Sorted(maps.Keys(ends)) {
		name := fmt.Sprint(code)
		if code < 0 {
			name = "killed"
		}
		out = append(out, fmt.Sprintf("%d × %s", ends[code], name))
	}
	return strings.Join(out, ", ")
}
