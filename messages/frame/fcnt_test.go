package frame

import (
	"testing"

	"pgregory.net/rapid"
)

// LoRaWAN 1.0.4 §4.3.1.5, against the same rule in 64 bits: the smallest counter from last on with these low bits.
func TestNextFCntIsThatOfA64BitCounter(t *testing.T) {
	edges := rapid.SampledFrom([]uint32{0, 1, 0xfffe, 0xffff, 0x10000, 0x10001, 0x1ffff, 0x7fff_ffff, 0x8000_0000, 0xfffe_ffff, 0xffff_0000, 0xffff_fffe, 0xffff_ffff})
	rapid.Check(t, func(t *rapid.T) {
		last := rapid.OneOf(edges, rapid.Uint32()).Draw(t, "last")
		low16 := rapid.OneOf(rapid.SampledFrom([]uint16{0, 1, 0xfffe, 0xffff, uint16(last), uint16(last) - 1, uint16(last) + 1}), rapid.Uint16()).Draw(t, "low16")
		want := uint64(last)
		for uint16(want) != low16 {
			want += uint64(low16-uint16(want)) % 0x10000
		}
		got, ok := NextFCnt(last, true, low16)
		if ok != (want <= 0xffff_ffff) || ok && uint64(got) != want {
			t.Fatalf("after %#x, %#x on air: got %#x, %v; want %#x", last, low16, got, ok, want)
		}
		if first, ok := NextFCnt(last, false, low16); !ok || first != uint32(low16) {
			t.Fatalf("first frame with %#x on air: got %#x, %v", low16, first, ok)
		}
	})
}

// A device that sends all of its counters, and of which any number below a full turn is lost, is followed exactly.
func TestNextFCntFollowsADeviceThatIsHeardNowAndThen(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		fCnt := uint64(rapid.Uint32().Draw(t, "start"))
		last, seen := uint32(fCnt), true
		for _, gap := range rapid.SliceOfN(rapid.Uint16Range(1, 0xffff), 1, 50).Draw(t, "gaps") {
			fCnt += uint64(gap)
			got, ok := NextFCnt(last, seen, uint16(fCnt))
			if fCnt > 0xffff_ffff {
				if ok {
					t.Fatalf("counter is used up, but got %#x", got)
				}
				return
			}
			if !ok || uint64(got) != fCnt {
				t.Fatalf("got %#x, %v; want %#x", got, ok, fCnt)
			}
			last = got
		}
	})
}
