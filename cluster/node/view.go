package node

import (
	"fmt"
	"slices"
	"time"

	"lorikeet/messages"
)

// State is a member's place in its life.
type State string

const (
	StateJoining State = "joining" // visible, owns nothing yet
	StateAlive   State = "alive"
	StateLeaving State = "leaving" // owns nothing any more, still answers
	StateRemoved State = "removed" // was silent for a lease; its process must end
)

// record is what a member says of itself in the bucket; the key is the ID of its incarnation. Who marks it as removed writes it the last time.
type record struct {
	Name           string    `json:"name"`
	Address        string    `json:"address"`
	Version        string    `json:"version"`
	Protocol       int       `json:"protocol"`
	OldestProtocol int       `json:"oldest_protocol"`
	State          State     `json:"state"`
	Since          time.Time `json:"since"`             // start of the process
	Renewed        bool      `json:"renewed,omitempty"` // at least once: the start is behind it
	RemovedBy      string    `json:"removed_by,omitempty"`
	Detour         bool      `json:"detour,omitempty"` // it takes messages from NATS too

	Lease time.Duration `json:"lease,omitempty"` // how long it may be silent; 0: it is of an older version, and has the lease of who looks
}

// Member is a node that lives.
type Member struct {
	Name, ID, Address        string // ID is of the incarnation
	Version                  string
	Protocol, OldestProtocol int
	State                    State
	Self, Detour             bool // Detour: it takes messages from NATS too
	Since                    time.Time
	LeaseAge                 time.Duration // since a renewal was last seen
	Shards                   int           // of 4096
}

// view is what this node knows of the others. Its methods are pure but for the view itself; instants are monotonic, counted from the node's start.
type view struct {
	lease   time.Duration
	self    string
	members map[string]*entry
	latest  uint64 // the highest revision seen

	sighted bool // an own renewal was seen
	ownSeen time.Duration
	grace   time.Duration // nobody is judged before
}

type entry struct {
	record
	revision uint64
	seen     time.Duration
	living   bool // was seen to change, so it is not left over from a dead process
}

func newView(self string, lease time.Duration) *view {
	return &view{lease: lease, self: self, members: map[string]*entry{}}
}

// see takes what the watch shows of a key; r is nil if the key was deleted. It says whether the list of members changed, beyond a renewal.
func (v *view) see(now time.Duration, key string, revision uint64, r *record) bool {
	old := v.members[key]
	if old != nil && revision <= old.revision {
		return false
	}
	v.latest = max(v.latest, revision)
	if key == v.self && r != nil && r.State != StateRemoved {
		v.sight(now)
	}
	if r == nil {
		delete(v.members, key)
		return old != nil
	}
	v.members[key] = &entry{record: *r, revision: revision, seen: now, living: old != nil}
	return old == nil || old.State != r.State || old.Address != r.Address
}

// sight notes that this node can see: its own renewal came back. After a gap the others have time anew, the more the longer it was, since
// their connections may take longer to come back than ours.
func (v *view) sight(now time.Duration) {
	switch gap := now - v.ownSeen; {
	case !v.sighted, v.blindFor(gap) && gap <= v.lease:
		v.grace = now + v.longest()
	case v.blindFor(gap):
		v.grace = now + 2*v.longest()
	}
	v.sighted, v.ownSeen = true, now
}

// blindFor: renewals come back each quarter of a lease, so with half a lease without one something is wrong with our own sight. It must be
// well below a lease, as what others renewed in the gap is not seen either.
func (v *view) blindFor(gap time.Duration) bool { return gap > v.lease/2 }

// leaseOf is how long a member may be silent: each says it for itself, so nodes whose leases differ do not remove each other.
func (v *view) leaseOf(e *entry) time.Duration {
	if e.Lease > 0 {
		return e.Lease
	}
	return v.lease
}

// longest is the longest lease of all.
func (v *view) longest() time.Duration {
	longest := v.lease
	for _, e := range v.members {
		longest = max(longest, v.leaseOf(e))
	}
	return longest
}

// silent gives the IDs of the members that did not renew for their lease. Who is blind does not judge.
func (v *view) silent(now time.Duration) []string {
	if !v.sighted || v.blindFor(now-v.ownSeen) || now < v.grace {
		return nil
	}
	var out []string
	for id, e := range v.members {
		if id != v.self && e.State != StateRemoved && now-e.seen >= v.leaseOf(e) {
			out = append(out, id)
		}
	}
	slices.Sort(out)
	return out
}

// removed says whether this node was removed by another. A key that is gone was: a node deletes its own key only when it stops.
func (v *view) removed() bool {
	e := v.members[v.self]
	return v.sighted && (e == nil || e.State == StateRemoved)
}

// list gives the members that live, the oldest incarnation of a name first.
func (v *view) list(now time.Duration) []Member {
	var out []Member
	for id, e := range v.members {
		if e.State != StateRemoved {
			out = append(out, Member{Name: e.Name, ID: id, Address: e.Address, Version: e.Version, Protocol: e.Protocol, OldestProtocol: e.OldestProtocol,
				State: e.State, Self: id == v.self, Detour: e.Detour, Since: e.Since, LeaseAge: now - e.seen})
		}
	}
	slices.SortFunc(out, compareMembers)
	return out
}

// hinders gives the IDs of the living members that keep a node from joining: those with its name, and those with which it has no protocol in common.
func (v *view) hinders(r record) []string {
	var out []string
	for id, e := range v.members {
		if id != v.self && e.State != StateRemoved && (e.Name == r.Name || !e.understands(r)) {
			out = append(out, id)
		}
	}
	slices.Sort(out)
	return out
}

// rival gives the ID of the member with our name that was there first; "" if that is us. Both of two that start at once ask after they have
// written their records: who sees one that was written before, or one whose start is over, gives way.
func (v *view) rival(r record, created uint64) string {
	for id, e := range v.members {
		if id != v.self && e.State != StateRemoved && e.Name == r.Name && (e.Renewed || e.revision < created) {
			return id
		}
	}
	return ""
}

func (r record) understands(o record) bool {
	return r.Protocol >= o.OldestProtocol && o.Protocol >= r.OldestProtocol
}

// inadmissible is the refusal of a node by a living member.
func inadmissible(r, by record) error {
	if r.understands(by) {
		return messages.Errorf(messages.CodeConflict, "node_name_in_use",
			"the node name %q is in use by the node at %s: give every node its own name", r.Name, by.Address)
	}
	return messages.Errorf(messages.CodePrecondition, "cluster_protocol",
		"this node is Lorikeet %s and speaks cluster protocol %s, node %s is Lorikeet %s and speaks %s: upgrade one release at a time",
		r.Version, protocols(r), by.Name, by.Version, protocols(by))
}

func protocols(r record) string {
	if r.OldestProtocol == r.Protocol {
		return fmt.Sprint(r.Protocol)
	}
	return fmt.Sprintf("%d to %d", r.OldestProtocol, r.Protocol)
}

// fitness is what a node may do by the age of its last renewal.
type fitness int

const (
	fit       fitness = iota
	suspended         // others may have taken over: nothing may be handled
	hopeless          // for too long
)

// fitnessAt judges by the instant at which the newest renewal that succeeded was begun, so a node is never fit when others may already have removed it.
func fitnessAt(now, renewed, lease, limit time.Duration) fitness {
	switch age := now - renewed; {
	case age < lease:
		return fit
	case age < limit:
		return suspended
	}
	return hopeless
}

// keepRemoved is how long a dead member stays in the bucket and in the view, for whoever wakes late.
const keepRemoved = time.Hour

// prune forgets the members that were removed long ago.
func (v *view) prune(now time.Duration) {
	for id, e := range v.members {
		if e.State == StateRemoved && now-e.seen > keepRemoved {
			delete(v.members, id)
		}
	}
}
