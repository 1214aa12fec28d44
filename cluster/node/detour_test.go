package node

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
)

// startPair starts two nodes that reach each other through proxies only.
func startPair(t *testing.T, url string) (nodes [2]*proc, links [2]*proxy) {
	t.Helper()
	names := [2]string{"a", "b"}
	for i, name := range names {
		listen := fmt.Sprintf("127.0.0.1:%d", freePort())
		links[i] = startProxy(t, listen)
		nodes[i] = spawn(t, childSpec{Name: name, NATS: url, Listen: listen, Advertise: links[i].listener.Addr().String(), Lease: 5 * time.Second, Limit: time.Minute})
	}
	for _, p := range nodes {
		p.event("started")
	}
	for _, p := range nodes {
		eventually(t, "both are alive", func() bool { return p.names() == "a alive, b alive" })
	}
	return nodes, links
}

// Nodes that reach NATS and not each other stay members, so what one has for the other must find its way.
func TestNodesThatDoNotReachEachOtherTalkThroughNATS(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		cut  []int // whom nobody reaches
	}{{"neither reaches the other", []int{0, 1}}, {"one reaches the other", []int{0}}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := natsServer(t, t.TempDir(), 0)
			nodes, links := startPair(t, s.ClientURL())
			a, b := nodes[0], nodes[1]
			ofA, ofB := deviceOf(a, "a"), deviceOf(a, "b")
			talk := func(what string) {
				t.Helper()
				for _, q := range []struct {
					from  *proc
					owner string
					of    string
				}{{a, "b", ofB}, {b, "a", ofA}} {
					for _, r := range []request{{Op: "frame", Device: q.of}, {Op: "ask", Device: q.of, Kind: "reading"}, {Op: "ask", Device: q.of, Kind: "command"},
						{Op: "asknode", Target: q.owner, Kind: "greet"}} {
						r.Timeout = 30 * time.Second
						got := q.from.try(r)
						if want := map[string]string{"ask": q.owner, "asknode": q.owner + " greets " + q.from.name + " x"}[r.Op]; got.Error != "" || got.Value != want {
							t.Errorf("%s: %s, %s %s: got %q, error %q", what, q.from.name, r.Op, r.Kind, got.Value, got.Error)
						}
					}
				}
			}
			talk("before")
			for _, i := range c.cut {
				links[i].setCut(true)
			}
			talk("cut")
			told := a.do(request{Op: "told"}).Value
			b.do(request{Op: "tellnodes"})
			eventually(t, "a is told something", func() bool { return a.do(request{Op: "told"}).Value != told })
			if n := b.do(request{Op: "detours"}).Value; n != "1" {
				t.Errorf("b, which does not reach a, has %s detours", n)
			}
			for _, i := range c.cut {
				links[i].setCut(false)
			}
			for _, p := range nodes {
				eventually(t, p.name+" talks directly again", func() bool { return p.do(request{Op: "detours"}).Value == "0" })
			}
			talk("healed")
		})
	}
}

// A stranger at the NATS server gets nowhere.
func TestUnsealedMessageOnADetourIsDropped(t *testing.T) {
	t.Parallel()
	s := natsServer(t, t.TempDir(), 0)
	a := startCluster(t, s.ClientURL(), 5*time.Second, "a")[0]
	nc, err := nats.Connect(s.ClientURL())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	id := a.do(request{Op: "members"}).Members[0].ID
	for _, data := range []string{"", "n", "sealed detour ", "sealed detour x", "sealed detour d\xff", "sealed detour n\xff", "sealed detour a\xff", strings.Repeat("x", 100_000)} {
		if err := nc.Publish(detourOf("lorikeet", id), []byte(data)); err != nil {
			t.Fatal(err)
		}
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	if got := a.do(request{Op: "ask", Device: "1", Kind: "command"}).Value; got != "a" {
		t.Errorf("answered by %q", got)
	}
}

func TestOnlyWhoDoesNotAnswerAProbeGetsADetour(t *testing.T) {
	d := &detours{}
	d.doubt("slow", 0)
	d.doubt("cut", 0)
	if due := d.due(0); len(due) != 2 || len(d.due(probePause-1)) != 0 || len(d.due(probePause)) != 2 {
		t.Errorf("to be probed: %v", due)
	}
	if d.on("slow") || d.on("cut") || d.len() != 0 {
		t.Error("a detour began before the probe")
	}
	if d.probed("slow", true) || !d.probed("cut", false) || d.probed("cut", false) {
		t.Error("the first failed probe makes the difference")
	}
	d.doubt("cut", probePause)
	if d.on("slow") || !d.on("cut") || d.len() != 1 {
		t.Error("who does not answer a probe is reached through NATS")
	}
	if !d.probed("cut", true) || d.on("cut") || d.probed("cut", false) || len(d.due(time.Hour)) != 0 {
		t.Error("an answer ends the detour")
	}
}
