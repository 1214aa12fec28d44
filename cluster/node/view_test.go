package node

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"lorikeet/messages"
)

const second = time.Second

func alive(name string) *record {
	return &record{Name: name, State: StateAlive, Protocol: 1, OldestProtocol: 1}
}

func TestSilentMembersAreJudgedOnlyByWhoCanSee(t *testing.T) {
	t.Parallel()
	const lease = 2 * second
	type step struct {
		at   time.Duration
		key  string
		want string // silent members at that instant
	}
	for name, steps := range map[string][]step{
		"a member that renews is left alone": {
			{0, "me", ""}, {0, "x", ""}, {second, "me", ""}, {second, "x", ""}, {2 * second, "me", ""}, {2500 * time.Millisecond, "me", ""}},
		"a silent one is found after a lease": {
			{0, "me", ""}, {0, "x", ""}, {second, "me", ""}, {1900 * time.Millisecond, "me", ""}, {2 * second, "", "x"}},
		"an own gap gives everybody a lease": {
			{0, "me", ""}, {0, "x", ""}, {1200 * time.Millisecond, "me", ""}, {2 * second, "me", ""}, {3 * second, "me", ""}, {3200 * time.Millisecond, "", "x"}},
		"a long gap gives two": {
			{0, "me", ""}, {0, "x", ""}, {10 * second, "me", ""}, {11 * second, "me", ""}, {12 * second, "me", ""}, {13 * second, "me", ""},
			{13900 * time.Millisecond, "me", ""}, {14 * second, "", "x"}},
		"who has never seen itself is blind":   {{0, "x", ""}, {5 * second, "", ""}},
		"who does not see itself now is blind": {{0, "me", ""}, {0, "x", ""}, {second, "me", ""}, {2100 * time.Millisecond, "", ""}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := newView("me", lease)
			for i, s := range steps {
				if s.key != "" {
					v.see(s.at, s.key, uint64(i+1), alive(s.key))
				}
				if got := strings.Join(v.silent(s.at), " "); got != s.want {
					t.Fatalf("at %s: silent is %q, want %q", s.at, got, s.want)
				}
			}
		})
	}
}

// Of nodes whose leases differ, none removes another before that one has had its own time.
func TestMembersAreJudgedByTheirOwnLease(t *testing.T) {
	t.Parallel()
	v := newView("me", 2*second)
	slow, quick := alive("slow"), alive("quick")
	slow.Lease, quick.Lease = 10*second, second
	see := func(at time.Duration, key string, r *record) { v.see(at, key, v.latest+1, r) }
	see(0, "me", alive("me"))
	see(0, "slow", slow)
	see(0, "quick", quick)
	want := func(at time.Duration, names string) {
		t.Helper()
		if got := strings.Join(v.silent(at), " "); got != names {
			t.Errorf("at %s: silent is %q, want %q", at, got, names)
		}
	}
	for at := time.Duration(0); at < 10*second; at += second {
		see(at, "me", alive("me"))
		if at >= 2*second {
			want(at, "quick")
		}
	}
	see(10*second, "me", alive("me"))
	want(10*second, "quick slow")
	// After a gap everybody has the time of the slowest.
	see(20*second, "slow", slow)
	see(20*second, "quick", quick)
	for at := 20 * second; at <= 40*second; at += second {
		see(at, "me", alive("me"))
		if at < 40*second {
			want(at, "")
		}
	}
	want(40*second, "quick slow")
}

func TestViewFollowsTheNewestRevision(t *testing.T) {
	t.Parallel()
	v := newView("me", 2*second)
	leaving, removed := alive("x"), alive("x")
	leaving.State, removed.State = StateLeaving, StateRemoved
	for _, c := range []struct {
		revision uint64
		record   *record
		changed  bool
		want     string
	}{
		{5, alive("x"), true, "x alive"}, {4, removed, false, "x alive"}, {5, removed, false, "x alive"}, {6, alive("x"), false, "x alive"},
		{7, leaving, true, "x leaving"}, {8, removed, true, ""}, {9, nil, true, ""}, {10, nil, false, ""},
	} {
		if got := v.see(second, "1", c.revision, c.record); got != c.changed {
			t.Errorf("revision %d: changed %v", c.revision, got)
		}
		got := ""
		for _, m := range v.list(2 * second) {
			got += m.Name + " " + string(m.State)
		}
		if got != c.want {
			t.Errorf("revision %d: got %q, want %q", c.revision, got, c.want)
		}
	}
}

func TestNodeSeesThatItWasRemoved(t *testing.T) {
	t.Parallel()
	v := newView("me", 2*second)
	if v.removed() {
		t.Error("removed before it was there")
	}
	v.see(0, "me", 1, alive("me"))
	if v.removed() {
		t.Error("removed while alive")
	}
	gone := alive("me")
	gone.State = StateRemoved
	v.see(0, "me", 2, gone)
	if !v.removed() {
		t.Error("marked as removed, but does not see it")
	}
	w := newView("me", 2*second)
	w.see(0, "me", 1, alive("me"))
	w.see(0, "me", 2, nil)
	if !w.removed() {
		t.Error("deleted, but does not see it")
	}
}

func TestDeadMembersAreForgottenAfterAnHour(t *testing.T) {
	t.Parallel()
	v := newView("me", 2*second)
	dead := alive("x")
	dead.State = StateRemoved
	v.see(0, "1", 1, dead)
	v.see(0, "2", 2, alive("y"))
	v.prune(time.Hour)
	if len(v.members) != 2 {
		t.Error("forgotten too early")
	}
	v.prune(time.Hour + 1)
	if len(v.members) != 1 || v.members["2"] == nil {
		t.Errorf("got %v", v.members)
	}
}

func TestJoiningIsHinderedByTheLivingOnly(t *testing.T) {
	t.Parallel()
	me := record{Name: "me", Version: "2", Protocol: 4, OldestProtocol: 3}
	v := newView("9", 2*second)
	for i, r := range []record{
		{Name: "me", State: StateAlive, Protocol: 4, OldestProtocol: 3},
		{Name: "me", State: StateRemoved, Protocol: 4, OldestProtocol: 3},
		{Name: "x", State: StateAlive, Protocol: 3, OldestProtocol: 2},
		{Name: "y", State: StateAlive, Protocol: 2, OldestProtocol: 1},
		{Name: "z", State: StateJoining, Protocol: 6, OldestProtocol: 5},
		{Name: "w", State: StateRemoved, Protocol: 1, OldestProtocol: 1},
	} {
		v.see(0, fmt.Sprint(i), uint64(i+1), &r)
	}
	if got := v.hinders(me); !slices.Equal(got, []string{"0", "3", "4"}) {
		t.Errorf("got %v", got)
	}
	if err := inadmissible(me, v.members["3"].record); messages.CodeOf(err) != messages.CodePrecondition {
		t.Errorf("got %v", err)
	}
	if err := inadmissible(me, v.members["0"].record); messages.CodeOf(err) != messages.CodeConflict {
		t.Errorf("got %v", err)
	}
}

// Two nodes of one name write their records and then look: exactly one stays, in whatever order that happens.
func TestOneOfTwinsGivesWay(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		type node struct {
			id       string
			step     int // written, looked, renewed
			created  uint64
			stays    bool
			revision uint64
			renewed  bool
		}
		nodes := []*node{{id: "a"}, {id: "b"}}
		revision := uint64(0)
		for nodes[0].step < 3 || nodes[1].step < 3 {
			n := nodes[rapid.IntRange(0, 1).Draw(t, "next")]
			switch n.step {
			case 0:
				revision++
				n.created, n.revision = revision, revision
			case 1:
				v := newView(n.id, second)
				for _, o := range nodes {
					if o.revision > 0 {
						v.see(0, o.id, o.revision, &record{Name: "twin", State: StateJoining, Renewed: o.renewed})
					}
				}
				if n.stays = v.rival(record{Name: "twin"}, n.created) == ""; !n.stays {
					n.revision = 0 // it deletes its record
				}
			case 2:
				if n.stays {
					revision++
					n.revision, n.renewed = revision, true
				}
			}
			n.step++
		}
		if nodes[0].stays == nodes[1].stays {
			t.Fatalf("a stays: %v, b stays: %v", nodes[0].stays, nodes[1].stays)
		}
	})
}

func TestFitnessEndsWithTheLease(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		age  time.Duration
		want fitness
	}{{0, fit}, {2*second - 1, fit}, {2 * second, suspended}, {59 * second, suspended}, {60 * second, hopeless}} {
		if got := fitnessAt(100*second+c.age, 100*second, 2*second, 60*second); got != c.want {
			t.Errorf("after %s: got %v, want %v", c.age, got, c.want)
		}
	}
}

func placed(names ...string) *table {
	var all []Member
	for _, n := range names {
		all = append(all, Member{Name: n, ID: "id-" + n, State: StateAlive})
	}
	return newTable("id-"+names[0], all)
}

func TestShardsAreSpreadEvenlyAndMoveLittle(t *testing.T) {
	t.Parallel()
	names := []string{"127.0.0.1:4001", "127.0.0.1:4002", "127.0.0.1:4003", "127.0.0.1:4004"}
	four, three := placed(names...), placed(names[:3]...)
	for _, n := range names {
		if got := four.owned["id-"+n]; got < 900 || got > 1150 {
			t.Errorf("%s owns %d of %d", n, got, shards)
		}
	}
	for i := range shards {
		if was, is := four.owners[i].Name, three.owners[i].Name; was != is && was != names[3] {
			t.Fatalf("shard %d moved from %s to %s, and neither is the one that left", i, was, is)
		}
	}
	per := map[int]int{}
	for i := range 40 * shards {
		id := messages.DeviceID{ApplicationID: "app", DeviceID: fmt.Sprint("dev-", i)}
		s := deviceShard(id)
		per[s]++
		if s != keyShard(kindDevice, id.UID()) {
			t.Fatalf("device and key hash differ for %s", id)
		}
	}
	for s, n := range per {
		if n > 90 {
			t.Errorf("shard %d has %d devices, 40 expected", s, n)
		}
	}
}

// The owner of a shard must not change between versions: nodes of two versions share a cluster during an upgrade.
func TestPlacementIsPinned(t *testing.T) {
	t.Parallel()
	four := placed("a", "b", "c", "d")
	var got strings.Builder
	for i := range 24 {
		got.WriteString(four.owners[i*100].Name)
	}
	if want := "cbddabdabdabaaababbcdacc"; got.String() != want {
		t.Errorf("owners are %q, want %q", got.String(), want)
	}
	if got := deviceShard(messages.DeviceID{ApplicationID: "app", DeviceID: "dev-1"}); got != 2691 {
		t.Errorf("shard %d", got)
	}
}

func TestTableKnowsWhoOwnsNothing(t *testing.T) {
	t.Parallel()
	all := []Member{
		{Name: "a", ID: "1", State: StateAlive}, {Name: "b", ID: "2", State: StateJoining}, {Name: "c", ID: "3", State: StateLeaving},
		{Name: "d", ID: "4", State: StateLeaving}, {Name: "d", ID: "5", State: StateAlive},
	}
	tab := newTable("1", all)
	if tab.owned["1"]+tab.owned["5"] != shards || tab.owned["1"] == 0 || tab.owned["5"] == 0 {
		t.Errorf("got %v", tab.owned)
	}
	if len(tab.byID) != 5 || tab.peers["d"].ID != "5" || tab.peers["b"].ID != "2" || tab.peers["c"].ID != "3" {
		t.Errorf("got %v", tab.peers)
	}
	if empty := newTable("1", nil); empty.owners[0] != nil || empty.owns(0) {
		t.Error("without members nobody owns anything")
	}
}
