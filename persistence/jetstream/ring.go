package jetstream

import (
	"cmp"
	"slices"

	"lorikeet/messages"
)

const (
	ringEntries = 1024    // of one application
	ringBytes   = 2 << 20 // of one application
	ringLeast   = 64      // entries that an application keeps when all rings together hold too much
	ringTotal   = 64 << 20
)

// ring holds the newest entries of a log, in order: all with Seq > floor that its follower has seen.
type ring struct {
	entries []messages.LogEntry
	floor   uint64
	bytes   int
}

func entryBytes(e *messages.LogEntry) int { return len(e.JSON) + 256 }

// push adds the next entry and drops old ones beyond the limits. It gives the growth in bytes.
func (r *ring) push(e messages.LogEntry, crowded bool) int {
	before := r.bytes
	r.entries = append(r.entries, e)
	r.bytes += entryBytes(&e)
	most := ringEntries
	if crowded {
		most = ringLeast
	}
	n := 0
	for rest := r.bytes; n < len(r.entries)-1 && (len(r.entries)-n > most || rest > ringBytes); n++ {
		rest -= entryBytes(&r.entries[n])
	}
	if n > 0 {
		r.cut(r.entries[n-1].Seq)
	}
	return r.bytes - before
}

// cut drops what is up to and including a Seq.
func (r *ring) cut(upTo uint64) {
	if upTo <= r.floor {
		return
	}
	n := r.search(upTo)
	for i := range n {
		r.bytes -= entryBytes(&r.entries[i])
		r.entries[i] = messages.LogEntry{}
	}
	r.entries = r.entries[n:]
	r.floor = upTo
}

// search gives how many entries have a Seq up to and including this one.
func (r *ring) search(seq uint64) int {
	n, found := slices.BinarySearchFunc(r.entries, seq, func(e messages.LogEntry, seq uint64) int { return cmp.Compare(e.Seq, seq) })
	if found {
		n++
	}
	return n
}

// after gives the entries behind a Seq, which must not be below floor, bounded.
func (r *ring) after(seq uint64, most int) []messages.LogEntry {
	start := r.search(seq)
	end, size := start, 0
	for end < len(r.entries) && end-start < most && size < readBytes {
		size += len(r.entries[end].JSON)
		end++
	}
	if start == end {
		return nil
	}
	return slices.Clone(r.entries[start:end])
}
