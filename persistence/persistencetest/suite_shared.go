package persistencetest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"lorikeet/messages"
)

// SharedStore is one node's end of a store that several nodes write.
type SharedStore interface {
	Store
	FollowDocuments(ctx context.Context, fn func(doc messages.Document, deleted bool)) error
	SyncDocuments(ctx context.Context) error
}

// RunShared checks what a shared store promises beside the contract of Run: that every node hears of the documents that any node writes, in the
// order of their revisions. A version that was soon replaced by a newer one of the same document may be left out. open
// gives n ends of a new empty store, each with a connection of its own; they are closed by open's own cleanup, after the test.
func RunShared(t *testing.T, open func(t *testing.T, n int) []SharedStore) {
	for _, c := range []struct {
		name  string
		nodes int
		test  func(*testing.T, []SharedStore)
	}{
		{"FollowWhatIsThere", 2, testFollowWhatIsThere},
		{"FollowEveryNode", 3, testFollowEveryNode},
		{"FollowDeletions", 2, testFollowDeletions},
		{"FollowGoesForward", 3, testFollowGoesForward},
		{"SyncAfterOwnWrite", 2, testSyncAfterOwnWrite},
		{"SyncWaitsForTheFollower", 1, testSyncWaitsForTheFollower},
		{"FollowEnds", 1, testFollowEnds},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.test(t, open(t, c.nodes))
		})
	}
}

// followed is what a follower was told.
type followed struct {
	mu      sync.Mutex
	calls   []messages.Document // without Value: deleted
	docs    map[string]messages.Document
	deleted int
	once    sync.Once
	begun   chan struct{}
	end     context.CancelFunc
	ended   chan struct{}
}

func name(d messages.Document) string { return string(d.Kind) + " " + d.ID }

// follow begins to, and comes back when what was there has been told. A document of its own shows that it has begun.
func follow(t *testing.T, s SharedStore) *followed {
	t.Helper()
	write(t, s, messages.Write{Kind: messages.KindServer, ID: "begun", Value: []byte("x")})
	ctx, end := context.WithCancel(t.Context())
	f := &followed{docs: map[string]messages.Document{}, begun: make(chan struct{}), end: end, ended: make(chan struct{})}
	go func() {
		defer close(f.ended)
		if err := s.FollowDocuments(ctx, f.observe); err != nil && ctx.Err() == nil {
			t.Errorf("follow: %v", err)
		}
	}()
	t.Cleanup(f.stop)
	select {
	case <-f.begun:
	case <-f.ended:
	}
	syncDocuments(t, s)
	return f
}

func (f *followed) stop() {
	f.end()
	<-f.ended
}

func (f *followed) observe(d messages.Document, deleted bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if d.Kind == messages.KindServer {
		f.once.Do(func() { close(f.begun) })
		return
	}
	f.calls = append(f.calls, d)
	f.docs[name(d)] = d
	if deleted {
		f.deleted++
		delete(f.docs, name(d))
	}
}

// check compares what the follower knows with what the store has, and looks at the order of what it was told.
func (f *followed) check(t *testing.T, s Store, kinds ...messages.Kind) {
	t.Helper()
	want := map[string]messages.Document{}
	for _, kind := range kinds {
		for _, d := range must[[]messages.Document](t)(s.ListDocuments(t.Context(), kind, "", "", 0)) {
			want[name(d)] = d
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if diff := cmp.Diff(want, f.docs); diff != "" {
		t.Errorf("a follower knows other documents than there are (-stored +followed):\n%s", diff)
	}
	for i, d := range f.calls {
		if d.Revision == 0 {
			t.Errorf("call %d: %s has no revision", i, name(d))
		}
		if i > 0 && d.Revision < f.calls[i-1].Revision {
			t.Errorf("call %d: %s at revision %d after %s at %d", i, name(d), d.Revision, name(f.calls[i-1]), f.calls[i-1].Revision)
		}
	}
}

func write(t *testing.T, s Store, writes ...messages.Write) {
	t.Helper()
	if err := s.WriteDocuments(t.Context(), writes); err != nil {
		t.Errorf("write: %v", err)
	}
}

func syncDocuments(t *testing.T, s SharedStore) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	if err := s.SyncDocuments(ctx); err != nil {
		t.Errorf("sync: %v", err)
	}
}

func testFollowWhatIsThere(t *testing.T, nodes []SharedStore) {
	for i := range 300 {
		write(t, nodes[0], messages.Write{Kind: messages.KindDevice, ID: fmt.Sprintf("app.dev-%d", i%250), Value: fmt.Appendf(nil, "%d", i)},
			messages.Write{Kind: messages.KindDeviceEUI, ID: fmt.Sprint(i), Value: []byte{}})
	}
	write(t, nodes[0], messages.Write{Kind: messages.KindDevice, ID: "app.dev-7"})
	for _, s := range nodes {
		f := follow(t, s)
		f.check(t, s, messages.KindDevice, messages.KindDeviceEUI)
	}
}

func testFollowEveryNode(t *testing.T, nodes []SharedStore) {
	var all []*followed
	for _, s := range nodes {
		all = append(all, follow(t, s))
	}
	var wg sync.WaitGroup
	for n, s := range nodes {
		for w := range 4 {
			wg.Go(func() {
				for i := range 40 {
					change := []messages.Write{{Kind: messages.KindLink, ID: fmt.Sprint(i % 5), Value: fmt.Appendf(nil, "%d %d %d", n, w, i)}}
					if i%3 == 0 {
						change = append(change, messages.Write{Kind: messages.KindWebhook, ID: fmt.Sprint(w), Value: []byte("x")})
					}
					if i%7 == 0 {
						change[0].Value = nil
					}
					if err := s.WriteDocuments(t.Context(), change); err != nil {
						t.Error(err)
					}
				}
			})
		}
	}
	wg.Wait()
	for i, s := range nodes {
		syncDocuments(t, s)
		all[i].check(t, s, messages.KindLink, messages.KindWebhook)
	}
}

func testFollowDeletions(t *testing.T, nodes []SharedStore) {
	write(t, nodes[0], messages.Write{Kind: messages.KindLink, ID: "a", Value: []byte("one")})
	f := follow(t, nodes[1])
	first := must[messages.Document](t)(nodes[0].GetDocument(t.Context(), messages.KindLink, "a"))
	write(t, nodes[0], messages.Write{Kind: messages.KindLink, ID: "a", Expect: true, Revision: first.Revision})
	syncDocuments(t, nodes[1])
	f.check(t, nodes[1], messages.KindLink)
	write(t, nodes[0], messages.Write{Kind: messages.KindLink, ID: "a", Value: []byte("two"), Expect: true})
	syncDocuments(t, nodes[1])
	f.check(t, nodes[1], messages.KindLink)
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.calls) != 3 || f.deleted != 1 || !(f.calls[0].Revision < f.calls[1].Revision && f.calls[1].Revision < f.calls[2].Revision) {
		t.Errorf("told %+v, %d of them deletions; want a document, its deletion and a new one, each later than the one before", f.calls, f.deleted)
	}
}

// Of many versions of a document that come fast a follower may miss some, but not the last one, and it is never told of an older one later.
func testFollowGoesForward(t *testing.T, nodes []SharedStore) {
	f := follow(t, nodes[0])
	var wg sync.WaitGroup
	for _, s := range nodes {
		wg.Go(func() {
			for done := 0; done < 30; {
				d, err := s.GetDocument(t.Context(), messages.KindLink, "counter")
				if err != nil && !errors.Is(err, messages.ErrNotFound) {
					t.Error(err)
					return
				}
				err = s.WriteDocuments(t.Context(), []messages.Write{{Kind: messages.KindLink, ID: "counter", Value: append(d.Value, 'x'), Expect: true, Revision: d.Revision}})
				switch {
				case err == nil:
					done++
				case !errors.Is(err, messages.ErrConflict):
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	syncDocuments(t, nodes[0])
	f.check(t, nodes[0], messages.KindLink)
	f.mu.Lock()
	defer f.mu.Unlock()
	marks := 0
	for i, d := range f.calls {
		if len(d.Value) <= marks {
			t.Fatalf("call %d has %d marks, the one before %d", i, len(d.Value), marks)
		}
		marks = len(d.Value)
	}
	if marks != 30*len(nodes) {
		t.Errorf("%d steps were told, %d were made", marks, 30*len(nodes))
	}
}

func testSyncAfterOwnWrite(t *testing.T, nodes []SharedStore) {
	followers := []*followed{follow(t, nodes[0]), follow(t, nodes[1])}
	var wg sync.WaitGroup
	for i, s := range nodes {
		for w := range 4 {
			wg.Go(func() {
				for n := range 20 {
					d := messages.Document{Kind: messages.KindDevice, ID: fmt.Sprintf("%d.%d", i, w), Value: fmt.Appendf(nil, "%d", n)}
					write(t, s, messages.Write{Kind: d.Kind, ID: d.ID, Value: d.Value})
					for k := range nodes { // the other node too: the write was durable before it was asked
						syncDocuments(t, nodes[k])
						followers[k].mu.Lock()
						got := string(followers[k].docs[name(d)].Value)
						followers[k].mu.Unlock()
						if got != string(d.Value) {
							t.Errorf("node %d knows %q of %s after a sync, want %q", k, got, d.ID, d.Value)
						}
					}
				}
			})
		}
	}
	wg.Wait()
}

func testSyncWaitsForTheFollower(t *testing.T, nodes []SharedStore) {
	s := nodes[0]
	hold, held, begun := make(chan struct{}), make(chan struct{}, 1), make(chan struct{})
	write(t, s, messages.Write{Kind: messages.KindServer, ID: "begun", Value: []byte("x")})
	ctx, cancel := context.WithCancel(t.Context())
	var done sync.WaitGroup
	done.Go(func() {
		err := s.FollowDocuments(ctx, func(d messages.Document, _ bool) {
			switch d.ID {
			case "begun":
				close(begun)
			case "slow":
				held <- struct{}{}
				<-hold
			}
		})
		if err != nil && ctx.Err() == nil {
			t.Error(err)
		}
	})
	<-begun
	write(t, s, messages.Write{Kind: messages.KindLink, ID: "slow", Value: []byte("x")})
	<-held
	write(t, s, messages.Write{Kind: messages.KindLink, ID: "next", Value: []byte("x")}) // a follower holds up nobody
	short, stop := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer stop()
	if err := s.SyncDocuments(short); err == nil {
		t.Error("sync came back before the follower was done")
	}
	close(hold)
	syncDocuments(t, s)
	cancel()
	done.Wait()
}

func testFollowEnds(t *testing.T, nodes []SharedStore) {
	s := nodes[0]
	f := follow(t, s)
	write(t, s, messages.Write{Kind: messages.KindLink, ID: "a", Value: []byte("x")})
	syncDocuments(t, s)
	f.stop()
	write(t, s, messages.Write{Kind: messages.KindLink, ID: "b", Value: []byte("x")})
	again := follow(t, s)
	again.check(t, s, messages.KindLink)
	if len(f.calls) != 1 {
		t.Errorf("%d calls, one of them after the end", len(f.calls))
	}
	if diff := cmp.Diff([]string{"link a"}, slices.Collect(maps.Keys(f.docs))); diff != "" {
		t.Error(diff)
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.SyncDocuments(cancelled); err == nil {
		t.Error("sync of a caller that is gone succeeds")
	}
}
