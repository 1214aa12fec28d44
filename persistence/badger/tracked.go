package badger

import (
	"encoding/binary"
	"hash/maphash"
	"sync"
)

// tracked knows the number of every tracked record (sessions, documents, cursors, log meta) in about 30 bytes each. It has three uses:
// the committer checks revisions without reading, a record that Badger does not find any more is noticed on reading it (Badger answers
// "not found" for what a damaged block held), and the digest over all of them, kept in the state record, shows at the next start
// whether any has gone missing or has gone back to an earlier write.
type tracked struct {
	mu      sync.RWMutex
	seed    maphash.Seed
	numbers map[uint64]uint64 // by the hash of the key
	counts  map[string]int    // by class
	digest  uint64
}

func newTracked() *tracked {
	return &tracked{seed: maphash.MakeSeed(), numbers: make(map[uint64]uint64), counts: make(map[string]int)}
}

func (t *tracked) hash(key []byte) uint64 { return maphash.Bytes(t.seed, key) }

// number is 0 if there is no such record.
func (t *tracked) number(key []byte) uint64 {
	h := t.hash(key)
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.numbers[h]
}

func (t *tracked) count(class []byte) int {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.counts[string(class)]
}

// set notes that a record has a new number; 0 removes it.
func (t *tracked) set(key []byte, number uint64) {
	h := t.hash(key)
	t.mu.Lock()
	defer t.mu.Unlock()
	old := t.numbers[h]
	t.digest += digestOf(key, number) - digestOf(key, old)
	c := class(key)
	switch {
	case number == 0:
		delete(t.numbers, h)
		if old != 0 {
			t.counts[string(c)]--
		}
	default:
		t.numbers[h] = number
		if old == 0 {
			t.counts[string(c)]++
		}
	}
}

// digestOf is one record's part of the digest, which is the sum of all parts modulo 2⁶⁴. A record that is not there has none.
func digestOf(key []byte, number uint64) uint64 {
	if number == 0 {
		return 0
	}
	var n [8]byte
	binary.BigEndian.PutUint64(n[:], number)
	const offset, prime = 14695981039346656037, 1099511628211 // FNV-1a
	h := uint64(offset)
	for _, c := range key {
		h = (h ^ uint64(c)) * prime
	}
	for _, c := range n {
		h = (h ^ uint64(c)) * prime
	}
	// FNV spreads the last bytes badly; the finaliser of SplitMix64 makes the sum of many parts as good as random.
	h = (h ^ h>>30) * 0xbf58476d1ce4e5b9
	h = (h ^ h>>27) * 0x94d049bb133111eb
	return h ^ h>>31
}
