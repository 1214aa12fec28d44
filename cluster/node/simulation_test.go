package node

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// simulation runs the rules of membership for some nodes and a bucket, in steps, with faults.
type simulation struct {
	lease   time.Duration
	now     time.Duration
	bucket  map[string]stored
	latest  uint64
	nodes   []*simulated
	removed map[string]time.Duration
	unsafe  string // what must never be
}

type stored struct {
	revision uint64
	record
}

type simulated struct {
	id                 string
	view               *view
	revision           uint64
	renewed, next      time.Duration
	dead, lost         bool
	pausedTo, cutTo    time.Duration
	wasCut             bool
	inbox              []delivery
	delay              time.Duration // of the watch
	reconnectedBetween time.Duration // after an outage of NATS
}

type delivery struct {
	at  time.Duration
	key string
	stored
}

const simulatedStep = 25 * time.Millisecond

func newSimulation(t *rapid.T, nodes int) *simulation {
	s := &simulation{lease: 2 * time.Second, bucket: map[string]stored{}, removed: map[string]time.Duration{}}
	for i := range nodes {
		id := fmt.Sprint(i)
		n := &simulated{id: id, view: newView(id, s.lease), delay: time.Duration(rapid.IntRange(0, 100).Draw(t, "delay")) * time.Millisecond,
			reconnectedBetween: time.Duration(rapid.IntRange(0, 500).Draw(t, "reconnect")) * time.Millisecond}
		s.nodes = append(s.nodes, n)
	}
	for _, n := range s.nodes {
		n.revision = s.put(n.id, record{Name: n.id, State: StateAlive})
	}
	return s
}

func (s *simulation) put(key string, r record) uint64 {
	s.latest++
	s.bucket[key] = stored{s.latest, r}
	for _, n := range s.nodes {
		if s.now >= n.cutTo {
			n.inbox = append(n.inbox, delivery{s.now + n.delay, key, s.bucket[key]})
		}
	}
	return s.latest
}

func (s *simulation) step() {
	for _, n := range s.nodes {
		if !n.dead && !n.lost && s.now >= n.pausedTo {
			s.run(n)
		}
	}
	s.now += simulatedStep
}

func (s *simulation) run(n *simulated) {
	if s.now < n.cutTo {
		n.inbox = nil
		return
	}
	if n.wasCut { // the watch begins anew, with all that is there
		n.wasCut = false
		for key, e := range s.bucket {
			n.inbox = append(n.inbox, delivery{s.now + n.delay, key, e})
		}
	}
	var later []delivery
	for _, d := range n.inbox {
		if s.now < d.at {
			later = append(later, d)
			continue
		}
		n.view.see(s.now, d.key, d.revision, &d.record)
	}
	n.inbox = later
	if n.view.removed() {
		n.lost = true
		return
	}
	if s.now >= n.next {
		if s.bucket[n.id].revision != n.revision {
			n.lost = true
			return
		}
		n.revision, n.renewed, n.next = s.put(n.id, s.bucket[n.id].record), s.now, s.now+s.lease/4
	}
	for _, id := range n.view.silent(s.now) {
		e := n.view.members[id]
		if s.bucket[id].revision != e.revision {
			continue
		}
		r := e.record
		r.State = StateRemoved
		s.put(id, r)
		s.removed[id] = s.now
		for _, victim := range s.nodes {
			if victim.id == id && !victim.dead && fitnessAt(s.now, victim.renewed, s.lease, time.Minute) == fit {
				s.unsafe = fmt.Sprintf("at %s node %s removes %s, which is fit: renewed at %s", s.now, n.id, id, victim.renewed)
			}
		}
	}
}

func (s *simulation) runTo(t *rapid.T, end time.Duration) {
	for s.now < end {
		s.step()
		if s.unsafe != "" {
			t.Fatal(s.unsafe)
		}
	}
}

// cutAll is an outage of NATS: the nodes find back one by one.
func (s *simulation) cutAll(length time.Duration) {
	for _, n := range s.nodes {
		s.cut(n, length+n.reconnectedBetween)
	}
}

// cut takes a node's connection away. The watch notices it even if the node stands still all the while.
func (s *simulation) cut(n *simulated, length time.Duration) {
	n.cutTo, n.wasCut = s.now+length, true
}

func duration(t *rapid.T, label string, most time.Duration) time.Duration {
	return time.Duration(rapid.Int64Range(0, int64(most/time.Millisecond)).Draw(t, label)) * time.Millisecond
}

// Between two outages every node has the time to come back and to renew; who doesn't was silent for the lease of both together, and is rightly removed.
func TestOutagesRemoveNobodyInSimulation(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := newSimulation(t, rapid.IntRange(2, 5).Draw(t, "nodes"))
		for range rapid.IntRange(1, 4).Draw(t, "outages") {
			s.runTo(t, s.now+time.Second+duration(t, "calm", 4*time.Second))
			outage := duration(t, "outage", 30*time.Second)
			s.cutAll(outage)
			s.runTo(t, s.now+outage)
		}
		s.runTo(t, s.now+50*time.Second)
		if len(s.removed) > 0 {
			t.Fatalf("removed: %v", s.removed)
		}
		for _, n := range s.nodes {
			if got := len(n.view.list(s.now)); got != len(s.nodes) || fitnessAt(s.now, n.renewed, s.lease, time.Minute) != fit {
				t.Fatalf("node %s sees %d members and was renewed at %s of %s", n.id, got, n.renewed, s.now)
			}
		}
	})
}

func TestDeadNodeIsRemovedWithinTheLeaseInSimulation(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := newSimulation(t, rapid.IntRange(2, 5).Draw(t, "nodes"))
		s.runTo(t, 2*time.Second+duration(t, "before", 3*time.Second))
		s.nodes[0].dead = true
		died := s.now
		s.runTo(t, s.now+4*time.Second)
		if at, ok := s.removed["0"]; !ok || at-died > s.lease+200*time.Millisecond {
			t.Fatalf("died at %s, removed at %s", died, at)
		}
		if len(s.removed) > 1 {
			t.Fatalf("removed: %v", s.removed)
		}
		for _, n := range s.nodes[1:] {
			if got := len(n.view.list(s.now)); got != len(s.nodes)-1 {
				t.Fatalf("node %s sees %d members", n.id, got)
			}
		}
	})
}

// Whatever stops, is cut off or dies: no node is removed while it may still handle something, and in the end all agree about who lives.
func TestNoFitNodeIsRemovedInSimulation(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := newSimulation(t, rapid.IntRange(2, 5).Draw(t, "nodes"))
		for range rapid.IntRange(1, 12).Draw(t, "faults") {
			s.runTo(t, s.now+duration(t, "calm", 3*time.Second))
			n := s.nodes[rapid.IntRange(0, len(s.nodes)-1).Draw(t, "node")]
			length := duration(t, "length", 8*time.Second)
			switch rapid.SampledFrom([]string{"pause", "cut", "kill", "outage"}).Draw(t, "fault") {
			case "pause":
				n.pausedTo = s.now + length
			case "cut":
				s.cut(n, length)
			case "kill":
				n.dead = true
			case "outage":
				s.cutAll(length)
			}
		}
		s.runTo(t, s.now+30*time.Second)
		for _, n := range s.nodes {
			if n.dead || n.lost {
				continue
			}
			living := 0
			for _, o := range s.nodes {
				if !o.dead && !o.lost {
					living++
				}
			}
			if got := len(n.view.list(s.now)); got != living {
				t.Fatalf("node %s sees %d members, %d live", n.id, got, living)
			}
		}
	})
}
