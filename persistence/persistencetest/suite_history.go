package persistencetest

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"lorikeet/messages"
)

// historyStart is the time of the first event that fillHistory writes. Each further one is ten seconds later, but some are a bit late.
var historyStart = time.Date(2026, 2, 3, 4, 0, 0, 0, time.UTC)

func historyTime(i int) time.Time {
	return historyStart.Add(time.Duration(i)*10*time.Second - time.Duration(i%3)*time.Minute)
}

var historyTypes = []messages.EventType{messages.EventUplink, messages.EventDownSent, messages.EventUplink, "some_future_type"}

// fillHistory writes n events of three devices, some with a session record and some without, some alone and some together.
func fillHistory(t *testing.T, s Store, app string, n int) []messages.Event {
	t.Helper()
	var all []messages.Event
	revisions := make(map[messages.DeviceID]messages.Revision)
	for len(all) < n {
		i := len(all)
		d := device(app, fmt.Sprintf("dev-%d", i%7%3))
		var events []messages.Event
		for range min(1+i%2, n-i) {
			k := len(all)
			e := event(d, k)
			e.Type, e.Time = historyTypes[k%len(historyTypes)], historyTime(k)
			events, all = append(events, e), append(all, e)
		}
		c := messages.Commit{Device: d, Events: events}
		if i%5 > 0 {
			c.Session, c.Expected = []byte("x"), revisions[d]
		}
		rev := must[messages.Revision](t)(s.Commit(t.Context(), c))
		if c.Session != nil {
			revisions[d] = rev
		}
	}
	return all
}

// readHistory reads all pages, and makes sure that the Seqs run one way.
func readHistory(t *testing.T, s Store, q messages.HistoryQuery) (ids []string) {
	t.Helper()
	last := uint64(0)
	for {
		page, err := s.ReadHistory(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		if q.Max > 0 && len(page.Entries) > q.Max {
			t.Fatalf("%d entries on a page of %d", len(page.Entries), q.Max)
		}
		for _, e := range page.Entries {
			if last > 0 && (e.Seq < last) != q.NewestFirst || e.Seq == last {
				t.Fatalf("entry %d follows %d, newest first: %v", e.Seq, last, q.NewestFirst)
			}
			last = e.Seq
			ids = append(ids, e.ID)
		}
		if page.Next == 0 {
			return ids
		}
		if page.Next == q.From {
			t.Fatalf("a page leads to itself at %d", page.Next)
		}
		q.From = page.Next
	}
}

func matching(all []messages.Event, q messages.HistoryQuery) (ids []string) {
	for _, e := range all {
		if q.Matches(e.Device.DeviceID, e.Type, e.Time) {
			ids = append(ids, e.ID)
		}
	}
	if q.NewestFirst {
		slices.Reverse(ids)
	}
	return ids
}

func testHistory(t *testing.T, s Store) {
	const n = 300
	all := fillHistory(t, s, "app", n)
	fillHistory(t, s, "ap", 10)
	fillHistory(t, s, "app2", 10)
	for _, q := range []messages.HistoryQuery{
		{}, {Type: messages.EventUplink}, {Type: "some_future_type"}, {Type: messages.EventJoin},
		{DeviceID: "dev-1"}, {DeviceID: "dev-1", Type: messages.EventDownSent}, {DeviceID: "dev-1", Type: "some_future_type"},
		{DeviceID: "dev"}, {DeviceID: "dev-11"}, {DeviceID: "nobody"},
		{After: historyTime(100)}, {Before: historyTime(100)}, {After: historyTime(50), Before: historyTime(60)}, {After: historyTime(60), Before: historyTime(50)}, {After: historyTime(n)}, {Before: historyTime(0)},
		{DeviceID: "dev-2", After: historyTime(50), Before: historyTime(200), Type: messages.EventUplink},
	} {
		q.ApplicationID = "app"
		counts, err := s.CountHistory(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		want := make(map[string]uint64)
		for _, e := range all {
			if q.Matches(e.Device.DeviceID, e.Type, e.Time) {
				want[e.Device.DeviceID]++
			}
		}
		if !maps.Equal(want, counts) {
			t.Errorf("%+v: counts %v, want %v", q, counts, want)
		}
		for _, q.NewestFirst = range []bool{false, true} {
			for _, q.Max = range []int{0, 1, 7, n} {
				if d := cmp.Diff(matching(all, q), readHistory(t, s, q)); d != "" {
					t.Errorf("%+v: %s", q, d)
				}
			}
		}
	}
}

// An entry comes back as it was committed, also if the commit was about another device of the application.
func testHistoryOfDevices(t *testing.T, s Store) {
	a, b := device("app", "a"), device("app", "b")
	want := event(b, 1)
	want.DevEUI, want.DevAddr = messages.EUI64{1, 2}, messages.DevAddr{3}
	must[messages.Revision](t)(s.Commit(t.Context(), messages.Commit{Device: a, Events: []messages.Event{event(a, 1), want, event(a, 2)}}))
	for _, newest := range []bool{false, true} {
		page := must[messages.HistoryPage](t)(s.ReadHistory(t.Context(), messages.HistoryQuery{ApplicationID: "app", DeviceID: "b", NewestFirst: newest}))
		if len(page.Entries) != 1 || !sameEvent(want, page.Entries[0].Event) {
			t.Errorf("newest first %v: %+v, want %+v", newest, page.Entries, want)
		}
	}
	page := must[messages.HistoryPage](t)(s.ReadHistory(t.Context(), messages.HistoryQuery{ApplicationID: "nobody"}))
	if len(page.Entries) != 0 || page.Next != 0 {
		t.Errorf("history of nobody: %+v", page)
	}
}

// Going back, pages show what was there when the first was read; going forward, they come to what was committed meanwhile.
func testHistoryWhileEventsArrive(t *testing.T, s Store) {
	all := fillHistory(t, s, "app", 40)
	for _, dev := range []string{"", "dev-1"} {
		back := messages.HistoryQuery{ApplicationID: "app", DeviceID: dev, NewestFirst: true, Max: 5}
		page := must[messages.HistoryPage](t)(s.ReadHistory(t.Context(), back))
		forward := back
		forward.NewestFirst = false
		first := must[messages.HistoryPage](t)(s.ReadHistory(t.Context(), forward))
		d := device("app", "dev-1")
		fresh := event(d, len(all))
		fresh.Time = historyTime(len(all))
		before := all
		must[messages.Revision](t)(s.Commit(t.Context(), messages.Commit{Device: d, Events: []messages.Event{fresh}}))
		all = append(slices.Clone(all), fresh)

		got := idsOf(page)
		back.From = page.Next
		if diff := cmp.Diff(matching(before, back), append(got, readHistory(t, s, back)...)); diff != "" {
			t.Errorf("device %q back: %s", dev, diff)
		}
		got = idsOf(first)
		forward.From = first.Next
		if diff := cmp.Diff(matching(all, forward), append(got, readHistory(t, s, forward)...)); diff != "" {
			t.Errorf("device %q forward: %s", dev, diff)
		}
	}
}

func idsOf(page messages.HistoryPage) (ids []string) {
	for _, e := range page.Entries {
		ids = append(ids, e.ID)
	}
	return ids
}

func testHistoryAfterDeletion(t *testing.T, s Store) {
	ctx := t.Context()
	fillHistory(t, s, "app", 20)
	if err := s.DeleteApplication(ctx, "app"); err != nil {
		t.Fatal(err)
	}
	d := device("app", "dev-1")
	fresh := event(d, 77)
	must[messages.Revision](t)(s.Commit(ctx, messages.Commit{Device: d, Events: []messages.Event{fresh}}))
	for _, q := range []messages.HistoryQuery{{}, {NewestFirst: true}, {DeviceID: "dev-1"}, {DeviceID: "dev-1", NewestFirst: true}} {
		q.ApplicationID = "app"
		if d := cmp.Diff([]string{fresh.ID}, readHistory(t, s, q)); d != "" {
			t.Errorf("%+v: %s", q, d)
		}
	}
	counts, err := s.CountHistory(ctx, messages.HistoryQuery{ApplicationID: "app"})
	if err != nil || !maps.Equal(counts, map[string]uint64{"dev-1": 1}) {
		t.Errorf("counts %v, %v", counts, err)
	}
}
