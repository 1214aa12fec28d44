package node

import (
	"cmp"
	"slices"
	"strings"

	"lorikeet/messages"
)

// shards is fixed for ever: nodes of all versions must agree on it.
const shards = 4096

// Kinds of identities that are placed.
const (
	kindDevice      = "device"
	kindIntegration = "integration"
)

// deviceShard is the shard of a device. Its name is hashed in parts: this is on the path of every frame.
func deviceShard(id messages.DeviceID) int {
	h := hashString(hashString(hashString(fnvOffset, kindDevice), "/"), id.ApplicationID)
	return int(mix(hashString(hashString(h, "."), id.DeviceID)) % shards)
}

// keyShard is the shard of an identity of any kind. For a device it is the same as deviceShard of the device with that UID.
func keyShard(kind, key string) int {
	return int(mix(hashString(hashString(hashString(fnvOffset, kind), "/"), key)) % shards)
}

const (
	fnvOffset = 14695981039346656037
	fnvPrime  = 1099511628211
)

// hashString is FNV-1a.
func hashString(h uint64, s string) uint64 {
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * fnvPrime
	}
	return h
}

// mix spreads every bit of h over all others (the finalizer of MurmurHash3): FNV alone gives names that differ in their last letter unequal shares.
func mix(h uint64) uint64 {
	h ^= h >> 33
	h *= 0xff51afd7ed558ccd
	h ^= h >> 33
	h *= 0xc4ceb9fe1a85ec53
	return h ^ h>>33
}

// peer is a node as messages reach it.
type peer struct {
	Name    string
	ID      string // of its incarnation
	Address string
	Detour  bool // it takes messages from NATS too
}

// table says who owns what. It is immutable.
type table struct {
	self   string           // the ID of this node's incarnation
	peers  map[string]*peer // all that can be reached, by name: also those that own nothing
	byID   map[string]*peer
	owners [shards]*peer  // nil if no node is alive
	owned  map[string]int // shards by ID
}

// newTable places the shards on the nodes that are alive.
func newTable(self string, all []Member) *table {
	t := &table{self: self, peers: map[string]*peer{}, byID: map[string]*peer{}, owned: map[string]int{}}
	var alive []*peer
	var seeds []uint64
	all = slices.Clone(all)
	slices.SortFunc(all, compareMembers)
	for _, m := range all {
		p := &peer{Name: m.Name, ID: m.ID, Address: m.Address, Detour: m.Detour}
		t.byID[m.ID] = p
		if t.peers[m.Name] != nil && m.State != StateAlive {
			continue // an older incarnation that is on its way out
		}
		t.peers[m.Name] = p
		if m.State != StateAlive {
			continue
		}
		if n := len(alive); n > 0 && alive[n-1].Name == m.Name {
			alive[n-1] = p
			continue
		}
		alive, seeds = append(alive, p), append(seeds, mix(hashString(fnvOffset, m.Name)))
	}
	for shard := range t.owners {
		best := uint64(0)
		for i, p := range alive {
			if w := mix(seeds[i] ^ mix(uint64(shard)+1)); t.owners[shard] == nil || w > best {
				t.owners[shard], best = p, w
			}
		}
		if p := t.owners[shard]; p != nil {
			t.owned[p.ID]++
		}
	}
	return t
}

// compareMembers orders by name, then by age: the newest incarnation of a name comes last.
func compareMembers(a, b Member) int {
	return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.ID, b.ID))
}

// owns says whether this node owns a shard.
func (t *table) owns(shard int) bool {
	p := t.owners[shard]
	return p != nil && p.ID == t.self
}
