package simulator

import (
	"math/bits"
	"time"
)

// histogram counts durations in buckets of 1/32 of their size, so that its memory does not grow: the error is at most 3 %.
type histogram struct {
	count [64 * 32]uint64
	n     uint64
	max   time.Duration
}

func (h *histogram) add(d time.Duration) {
	d = max(d, 0)
	h.n++
	h.max = max(h.max, d)
	h.count[bucket(uint64(d.Microseconds()))]++
}

func bucket(us uint64) int {
	shift := max(bits.Len64(us)-6, 0)
	return 32*shift + int(us>>shift)
}

// quantile gives the upper end of the bucket that holds the q-quantile; 0 if nothing was counted.
func (h *histogram) quantile(q float64) time.Duration {
	rank := uint64(q * float64(h.n))
	for i, n := range h.count {
		if n > rank {
			shift := max(i/32-1, 0)
			upper := (uint64(i-32*shift) + 1) << shift
			return min(time.Duration(upper)*time.Microsecond, h.max)
		}
		rank -= n
	}
	return h.max
}
