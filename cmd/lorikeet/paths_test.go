package main

import (
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"lorikeet/messages"
)

// twoNodes are the paths of nodes a and b that hear each other.
func twoNodes(t *testing.T, test func(a, b *paths, told func() int)) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		n := 0
		var a, b *paths
		count := func(body []byte) {
			mu.Lock()
			defer mu.Unlock()
			n += len(body) / 8
		}
		a = startPaths("a", time.Now, func(body []byte) { count(body); b.heard("a", body) })
		b = startPaths("b", time.Now, func(body []byte) { count(body); a.heard("b", body) })
		defer a.stop()
		defer b.stop()
		test(a, b, func() int {
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			return n
		})
	})
}

func wantPath(t *testing.T, eui messages.EUI64, want string, all ...*paths) {
	t.Helper()
	synctest.Wait()
	for _, p := range all {
		if node, ok := p.nodeOf(eui); node != want || ok != (want != "") {
			t.Errorf("node %s looks for the radio gateway at %q, %v; want %q", p.self, node, ok, want)
		}
	}
}

func TestPathFollowsTheRadioGateway(t *testing.T) {
	twoNodes(t, func(a, b *paths, told func() int) {
		eui := messages.EUI64{1}
		wantPath(t, eui, "", a, b)
		a.pulled(eui)
		wantPath(t, eui, "a", a, b)
		time.Sleep(5 * time.Second)
		b.pulled(eui) // moved
		wantPath(t, eui, "b", a, b)
		time.Sleep(5 * time.Second)
		a.pulled(eui) // and back, soon
		wantPath(t, eui, "a", a, b)
		if a.here() != 1 || b.here() != 0 {
			t.Errorf("%d at a, %d at b", a.here(), b.here())
		}
		time.Sleep(pathExpiry + time.Second)
		wantPath(t, eui, "", a, b)
	})
}

func TestPathsAreToldSeldom(t *testing.T) {
	twoNodes(t, func(a, b *paths, told func() int) {
		for range 60 { // ten minutes
			a.pulled(messages.EUI64{1})
			time.Sleep(10 * time.Second)
		}
		if n := told(); n != 20 {
			t.Errorf("told %d times in ten minutes", n)
		}
		a.retell()
		if n := told(); n != 21 {
			t.Errorf("told %d times", n)
		}
	})
}

func TestManyPathsAreToldInParts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var sizes []int
		p := startPaths("a", time.Now, func(body []byte) { sizes = append(sizes, len(body)) })
		for i := range 1200 {
			p.pulled(messages.EUI64{byte(i), byte(i >> 8)})
		}
		synctest.Wait()
		p.stop()
		total := 0
		for _, n := range sizes {
			total += n / 8
		}
		if total != 1200 || slices.Max(sizes) > 4000 {
			t.Errorf("%d paths in messages of at most %d bytes", total, slices.Max(sizes))
		}
		p.heard("b", []byte{1, 2, 3}) // malformed: nothing
	})
}
