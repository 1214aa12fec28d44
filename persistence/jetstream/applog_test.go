package jetstream

import (
	"fmt"
	"math"
	"slices"
	"sync"
	"testing"

	"lorikeet/messages"
)

// commitMany appends n events of one device each, by several callers at once, and gives the order in which they are in the log.
func commitMany(t *testing.T, s *Store, n int) {
	t.Helper()
	var wg sync.WaitGroup
	for c := range 16 {
		wg.Go(func() {
			for i := c; i < n; i += 16 {
				if _, err := s.Commit(t.Context(), messages.Commit{Device: testDevice, Events: []messages.Event{testEvent(i)}}); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// Readers far behind the end get every entry, each at its own pace, and their number is known.
func TestReadersFarBack(t *testing.T) {
	t.Parallel()
	writer := openSingle(t)
	const n = 1500 // more than the ring holds, and more than is counted one by one
	commitMany(t, writer, n)
	s := mustOpen(t, Config{Conn: connect(t, singleServer(t)), Namespace: writer.cfg.Namespace})
	if got, err := s.CountLog(t.Context(), "app", 0, math.MaxUint64); err != nil || got != n {
		t.Errorf("%d entries, %v", got, err)
	}
	want := readAll(t, s, "app")
	if len(want) != n {
		t.Fatalf("%d entries", len(want))
	}
	var wg sync.WaitGroup
	for _, step := range []int{7, 64, 100, 1000} {
		wg.Go(func() {
			var got []string
			for after := uint64(0); ; {
				entries, err := s.ReadLog(t.Context(), "app", after, step)
				if err != nil || len(entries) > step {
					t.Errorf("step %d: %d entries, %v", step, len(entries), err)
					return
				}
				if len(entries) == 0 {
					break
				}
				for _, e := range entries {
					got = append(got, e.ID)
				}
				after = entries[len(entries)-1].Seq
			}
			if !slices.Equal(got, want) {
				t.Errorf("step %d gives %d entries, or another order", step, len(got))
			}
		})
	}
	wg.Wait()
	// The ring of the writer lacks the oldest ones.
	if got := readAll(t, writer, "app"); !slices.Equal(got, want) {
		t.Errorf("the writer reads %d entries, or another order", len(got))
	}
	commitMany(t, writer, 3)
	entries, err := s.ReadLog(t.Context(), "app", 0, 0)
	if err != nil || len(entries) == 0 || entries[0].ID != want[0] {
		t.Fatalf("from the beginning again: %d entries, %v", len(entries), err)
	}
	if got, err := s.CountLog(t.Context(), "app", entries[9].Seq, entries[19].Seq); err != nil || got != 10 {
		t.Errorf("%d entries between the 10th and the 20th, %v", got, err)
	}
}

// A follower that nobody needs ends, and the next reader misses nothing.
func TestIdleFollowerEnds(t *testing.T) {
	t.Parallel()
	s := openSingle(t)
	commitMany(t, s, 5)
	if got := len(readAll(t, s, "app")); got != 5 {
		t.Fatalf("%d entries", got)
	}
	a := s.appLog("app", false)
	end := func() {
		t.Helper()
		s.stopIdle(0)
		a.mu.Lock()
		defer a.mu.Unlock()
		for a.running {
			changed := a.changed
			a.mu.Unlock()
			<-changed
			a.mu.Lock()
		}
	}
	end()
	if n := s.rings.Load(); n != 0 {
		t.Errorf("%d bytes in the rings", n)
	}
	commitMany(t, s, 5)
	if got := len(readAll(t, s, "app")); got != 10 {
		t.Errorf("%d entries", got)
	}
	end()
	changed, cancel := s.WatchLog("app")
	defer cancel()
	s.stopIdle(0) // it is watched
	commitMany(t, s, 1)
	<-changed
	if got := len(readAll(t, s, "app")); got != 11 {
		t.Errorf("%d entries", got)
	}
}

func TestRing(t *testing.T) {
	t.Parallel()
	var r ring
	entry := func(seq uint64, size int) messages.LogEntry {
		return messages.LogEntry{Seq: seq, Event: messages.Event{ID: fmt.Sprint(seq), JSON: make([]byte, size)}}
	}
	for i := range uint64(2 * ringEntries) {
		r.push(entry(10*(i+1), 10), false)
	}
	if len(r.entries) != ringEntries || r.floor != 10*ringEntries || r.bytes != ringEntries*266 {
		t.Errorf("%d entries above %d, %d bytes", len(r.entries), r.floor, r.bytes)
	}
	if got := r.after(r.floor, 2); len(got) != 2 || got[0].Seq != r.floor+10 {
		t.Errorf("behind the floor: %v", got)
	}
	if got := r.after(r.floor+15, 1); len(got) != 1 || got[0].Seq != r.floor+20 {
		t.Errorf("in a gap: %v", got)
	}
	if got := r.after(20*ringEntries, 1); got != nil {
		t.Errorf("behind the end: %v", got)
	}
	r.push(entry(1_000_000, ringBytes), false) // larger than the ring is let in alone
	if len(r.entries) != 1 || r.floor != 20*ringEntries {
		t.Errorf("%d entries above %d", len(r.entries), r.floor)
	}
	for i := range uint64(2 * ringLeast) {
		r.push(entry(2_000_000+i, 10), true)
	}
	if len(r.entries) != ringLeast {
		t.Errorf("%d entries while memory is short", len(r.entries))
	}
	r.cut(3_000_000)
	if len(r.entries) != 0 || r.bytes != 0 || r.floor != 3_000_000 {
		t.Errorf("%d entries and %d bytes above %d", len(r.entries), r.bytes, r.floor)
	}
}
