package cluster

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"lorikeet/messages"
)

// entries is a store of directory entries that every follower sees in one order.
type entries struct {
	mu        sync.Mutex
	list      []change
	followers map[chan struct{}]bool
	failing   bool
	puts      int
}

type change struct {
	id    messages.DeviceID
	entry []byte
}

func (e *entries) PutEntry(_ context.Context, id messages.DeviceID, entry []byte) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.failing {
		return errors.New("no quorum")
	}
	e.puts++
	e.list = append(e.list, change{id, entry})
	for f := range e.followers {
		select {
		case f <- struct{}{}:
		default:
		}
	}
	return nil
}

func (e *entries) FollowEntries(ctx context.Context, fn func(messages.DeviceID, []byte), caughtUp func()) error {
	wake := make(chan struct{}, 1)
	e.mu.Lock()
	if e.followers == nil {
		e.followers = map[chan struct{}]bool{}
	}
	e.followers[wake] = true
	e.mu.Unlock()
	for n, first := 0, true; ; first = false {
		e.mu.Lock()
		list := e.list[n:]
		n = len(e.list)
		e.mu.Unlock()
		for _, c := range list {
			fn(c.id, c.entry)
		}
		if first {
			caughtUp()
		}
		select {
		case <-wake:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (e *entries) set(failing bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.failing = failing
}

func inNodes(t *testing.T, test func(t *testing.T, store *entries, a, b *Shared)) {
	synctest.Test(t, func(t *testing.T) {
		store := &entries{}
		open := func() *Shared {
			s, err := OpenShared(t.Context(), store, slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			return s
		}
		a, b := open(), open()
		defer b.Close()
		defer a.Close()
		test(t, store, a, b)
	})
}

var (
	first  = messages.SessionEntry{DevAddr: messages.DevAddr{1}, NwkSKey: messages.Key{1}, LastFCntUp: 5, HasFCntUp: true}
	second = messages.SessionEntry{DevAddr: messages.DevAddr{2}, NwkSKey: messages.Key{2}}
)

func TestSessionsOfOneNodeAreFoundOnAll(t *testing.T) {
	inNodes(t, func(t *testing.T, store *entries, a, b *Shared) {
		a.Set(device(1), first)
		synctest.Wait()
		b.wants(t, first.NwkSKey, first.DevAddr, 6, device(1), Found)
		if err := a.Prepare(t.Context(), device(1), first, second); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		for _, n := range []*Shared{a, b} {
			n.wants(t, first.NwkSKey, first.DevAddr, 6, device(1), Found)
			n.wants(t, second.NwkSKey, second.DevAddr, 0, device(1), Found)
		}
		a.Set(device(1), second)
		synctest.Wait()
		for _, n := range []*Shared{a, b} {
			n.wants(t, first.NwkSKey, first.DevAddr, 6, messages.DeviceID{}, Unknown)
			n.wants(t, second.NwkSKey, second.DevAddr, 0, device(1), Found)
		}
		late, err := OpenShared(t.Context(), store, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		defer late.Close()
		late.wants(t, second.NwkSKey, second.DevAddr, 0, device(1), Found) // built before it is opened
		a.Set(device(1))
		synctest.Wait()
		b.wants(t, second.NwkSKey, second.DevAddr, 0, messages.DeviceID{}, Unknown)
	})
}

func TestCountersAreToldSeldomAndFramesAreFoundAllTheSame(t *testing.T) {
	inNodes(t, func(t *testing.T, store *entries, a, b *Shared) {
		e := first
		const frames = 3*counterStep + 100
		for n := uint32(6); n < frames; n++ {
			e.LastFCntUp = n
			a.Set(device(1), e)
		}
		synctest.Wait()
		if store.puts > 4 {
			t.Errorf("%d messages for %d frames", store.puts, frames)
		}
		b.wants(t, e.NwkSKey, e.DevAddr, frames, device(1), Found)
		b.wants(t, e.NwkSKey, e.DevAddr, frames+40000, device(1), Found)
	})
}

func TestWhatCouldNotBeToldIsToldLater(t *testing.T) {
	inNodes(t, func(t *testing.T, store *entries, a, b *Shared) {
		store.set(true)
		a.Set(device(1), first)
		a.Set(device(2), second)
		time.Sleep(5 * time.Second)
		if err := a.Prepare(t.Context(), device(3), first); err == nil {
			t.Error("a session is prepared that no node knows")
		}
		short, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := a.Flush(short); err == nil {
			t.Error("flushed although nothing was told")
		}
		a.Set(device(1), second) // only the newest state is told
		store.set(false)
		if err := a.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if b.Len() != 2 || store.puts != 2 {
			t.Errorf("%d devices known after %d messages", b.Len(), store.puts)
		}
		b.wants(t, first.NwkSKey, first.DevAddr, 6, messages.DeviceID{}, Unknown)
	})
}

func TestEchoDoesNotSetACounterBack(t *testing.T) {
	inNodes(t, func(t *testing.T, store *entries, a, _ *Shared) {
		a.Set(device(1), first)
		synctest.Wait()
		newer := first
		newer.LastFCntUp = 1000
		a.Set(device(1), newer)
		a.follow(device(1), store.list[0].entry)
		a.wants(t, first.NwkSKey, first.DevAddr, 500, messages.DeviceID{}, Replayed)
		a.follow(device(1), []byte("\xff damaged"))
		a.wants(t, first.NwkSKey, first.DevAddr, 1001, device(1), Found)
	})
}
