package cluster

import (
	"context"
	"slices"
	"sync"

	"lorikeet/messages"
	"lorikeet/messages/frame"
)

// Directory finds the device of an uplink by its DevAddr and MIC, before any actor wakes. It holds every session of the server, about 320 bytes each,
// and is safe for use by several goroutines.
type Directory struct {
	shards [64]shard
}

type shard struct {
	mu      sync.RWMutex
	byAddr  map[messages.DevAddr][]candidate
	devices map[messages.DeviceID][]messages.DevAddr
}

type candidate struct {
	device messages.DeviceID
	messages.SessionEntry
}

// maxCandidates bounds the sessions whose MIC is computed for one frame: about a millisecond. Vendors ship thousands of ABP devices with one DevAddr.
const maxCandidates = 1000

// NewDirectory gives an empty directory.
func NewDirectory() *Directory {
	d := &Directory{}
	for i := range d.shards {
		d.shards[i].byAddr = map[messages.DevAddr][]candidate{}
		d.shards[i].devices = map[messages.DeviceID][]messages.DevAddr{}
	}
	return d
}

func (d *Directory) addrShard(a messages.DevAddr) *shard { return &d.shards[(a[2]^a[3])%64] }

func (d *Directory) deviceShard(id messages.DeviceID) *shard {
	h := uint32(2166136261)
	for i := range len(id.DeviceID) {
		h = (h ^ uint32(id.DeviceID[i])) * 16777619
	}
	return &d.shards[h%64]
}

// Prepare has nothing to do on a single node: the directory is built from the session records.
func (d *Directory) Prepare(context.Context, messages.DeviceID, ...messages.SessionEntry) error {
	return nil
}

// Set replaces the sessions of a device; none removes it. Calls for one device must not overlap: its actor makes them in order.
func (d *Directory) Set(id messages.DeviceID, entries ...messages.SessionEntry) {
	ds := d.deviceShard(id)
	ds.mu.RLock()
	before := ds.devices[id]
	ds.mu.RUnlock()
	same := len(before) == len(entries)
	for i := range entries {
		as := d.addrShard(entries[i].DevAddr)
		as.mu.Lock()
		as.put(candidate{device: id, SessionEntry: entries[i]}, i == 0 || entries[i].DevAddr != entries[0].DevAddr)
		as.mu.Unlock()
		same = same && before[i] == entries[i].DevAddr
	}
	if same {
		return
	}
	after := make([]messages.DevAddr, len(entries))
	for i := range entries {
		after[i] = entries[i].DevAddr
	}
	for _, a := range before {
		kept := false
		for _, b := range after {
			kept = kept || a == b
		}
		if !kept {
			as := d.addrShard(a)
			as.mu.Lock()
			as.drop(a, id)
			as.mu.Unlock()
		}
	}
	ds.mu.Lock()
	defer ds.mu.Unlock()
	if len(after) == 0 {
		delete(ds.devices, id)
		return
	}
	ds.devices[id] = after
}

// DevAddrs gives the addresses of a device's sessions.
func (d *Directory) DevAddrs(id messages.DeviceID) []messages.DevAddr {
	s := d.deviceShard(id)
	s.mu.RLock()
	defer s.mu.RUnlock()
	return slices.Clone(s.devices[id])
}

// put adds c, in place of the device's other entries under this address if replace is set.
func (s *shard) put(c candidate, replace bool) {
	list := s.byAddr[c.DevAddr]
	same := func(o candidate) bool { return o.device == c.device }
	if i := slices.IndexFunc(list, same); replace && i >= 0 {
		if !slices.ContainsFunc(list[i+1:], same) {
			list[i] = c
			return
		}
		list = without(list, c.device)
	}
	s.byAddr[c.DevAddr] = append(list, c)
}

func without(list []candidate, id messages.DeviceID) []candidate {
	var out []candidate
	for _, c := range list {
		if c.device != id {
			out = append(out, c)
		}
	}
	return out
}

func (s *shard) drop(a messages.DevAddr, id messages.DeviceID) {
	if list := without(s.byAddr[a], id); len(list) > 0 {
		s.byAddr[a] = list
	} else {
		delete(s.byAddr, a)
	}
}

// Match is the outcome of Find.
type Match int

const (
	Unknown  Match = iota // no device has this DevAddr
	BadMIC                // a device has it, but did not make this frame
	Replayed              // it did, but with a counter that is behind
	Found
	Crowded // more devices have this DevAddr than can be checked
)

// Find gives the device that made an uplink. The MIC is checked with the one counter value that the 16 bits on air stand for
// (LoRaWAN 1.0.4 §4.3.1.5). d must be parsed from phy.
func (d *Directory) Find(data frame.Data, phy []byte) (messages.DeviceID, Match) {
	s := d.addrShard(data.DevAddr)
	s.mu.RLock()
	var buf [4]candidate
	list := append(buf[:0], s.byAddr[data.DevAddr]...)
	s.mu.RUnlock()
	if len(list) == 0 {
		return messages.DeviceID{}, Unknown
	}
	outcome, checked := BadMIC, 0
	for _, soon := range [...]bool{true, false} {
		for i := range list {
			c := &list[i]
			if c.expects(data.FCnt16) != soon {
				continue
			}
			if checked++; checked > maxCandidates {
				return messages.DeviceID{}, Crowded
			}
			switch c.match(data, phy) {
			case Found:
				return c.device, Found
			case Replayed:
				outcome = Replayed
			}
		}
	}
	return messages.DeviceID{}, outcome
}

// expects says whether fCnt16 follows closely on the last uplink, as it nearly always does.
func (c *candidate) expects(fCnt16 uint16) bool {
	const closely = 64
	return !c.HasFCntUp || fCnt16-uint16(c.LastFCntUp) <= closely
}

func (c *candidate) match(data frame.Data, phy []byte) Match {
	nwk := frame.NewCipher(c.NwkSKey)
	check := func(fCnt uint32) bool {
		if c.FCnt16 {
			fCnt &= 0xffff
		}
		return nwk.CheckUp(data.DevAddr, fCnt, phy)
	}
	next, ok := frame.NextFCnt(c.LastFCntUp, c.HasFCntUp, data.FCnt16)
	if ok && check(next) || c.ResetsFCnt && check(uint32(data.FCnt16)) {
		return Found
	}
	if old := c.LastFCntUp&^0xffff | uint32(data.FCnt16); c.HasFCntUp && old < c.LastFCntUp && !c.FCnt16 && check(old) {
		return Replayed
	}
	return BadMIC
}

// Lookup is Find with the outcome in words, for counters.
func (d *Directory) Lookup(data frame.Data, phy []byte) (messages.DeviceID, string, bool) {
	id, m := d.Find(data, phy)
	return id, [...]string{"unknown_dev_addr", "mic", "f_cnt_replayed", "found", "dev_addr_crowded"}[m], m == Found
}

// sessionsOf gives what the directory has of a device.
func (d *Directory) sessionsOf(id messages.DeviceID) []messages.SessionEntry {
	ds := d.deviceShard(id)
	ds.mu.RLock()
	addrs := ds.devices[id]
	ds.mu.RUnlock()
	var out []messages.SessionEntry
	for i, a := range addrs {
		if i > 0 && a == addrs[0] {
			continue // both sessions are under one address
		}
		s := d.addrShard(a)
		s.mu.RLock()
		for _, c := range s.byAddr[a] {
			if c.device == id {
				out = append(out, c.SessionEntry)
			}
		}
		s.mu.RUnlock()
	}
	return out
}

// Has says whether the device has a session.
func (d *Directory) Has(id messages.DeviceID) bool {
	s := d.deviceShard(id)
	s.mu.RLock()
	defer s.mu.RUnlock()
	return len(s.devices[id]) > 0
}

// Len is the number of devices with a session.
func (d *Directory) Len() int {
	n := 0
	for i := range d.shards {
		d.shards[i].mu.RLock()
		n += len(d.shards[i].devices)
		d.shards[i].mu.RUnlock()
	}
	return n
}
