package registry

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"lorikeet/messages"
	"lorikeet/persistence/memory"
	"lorikeet/persistence/persistencetest"
)

// A watcher may ask what waits for news, although it is called by news itself; and a write is answered after it was called.
func TestWatcherMayAskTheRegistry(t *testing.T) {
	ctx := t.Context()
	store := memory.New()
	nodes := openNodes(t, onMemory(store), 2)
	must(t)(nodes[0].CreateApplication(ctx, newApplication("my-app")))
	key, err := nodes[0].CreateAPIKey(ctx, "my-app", trafficKey)
	must(t)(key, err)
	var refused [2]atomic.Int32
	for i, r := range nodes {
		if err := r.follow.settle(ctx); err != nil { // so that it hears of nothing but the deletion
			t.Fatal(err)
		}
		r.Watch(func(c messages.Change) {
			if _, err := r.Authorize(ctx, key.Key); messages.CodeOf(err) == messages.CodeUnauthenticated && !r.ApplicationExists("other") {
				refused[i].Add(1)
			}
		})
	}
	if err := nodes[0].DeleteAPIKey(ctx, "my-app", key.ID); err != nil {
		t.Fatal(err)
	}
	if refused[0].Load() != 1 {
		t.Error("the deletion was answered before the watcher heard of it")
	}
	if err := nodes[1].follow.settle(ctx); err != nil || refused[1].Load() != 1 {
		t.Errorf("the other node's watcher was called %d times, %v", refused[1].Load(), err)
	}
}

// unsteady is a node of which one call fails.
type unsteady struct {
	*persistencetest.Failing
	node *memory.Node
}

func (u unsteady) FollowDocuments(ctx context.Context, fn func(messages.Document, bool)) error {
	return u.node.FollowDocuments(ctx, fn)
}

func (u unsteady) SyncDocuments(ctx context.Context) error { return u.node.SyncDocuments(ctx) }

// silent is a node whose store does not go on telling.
type silent struct {
	*memory.Node
	err chan error
}

func (s silent) FollowDocuments(ctx context.Context, fn func(messages.Document, bool)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	result := make(chan error, 1)
	go func() { result <- s.Node.FollowDocuments(ctx, fn) }()
	err := <-s.err
	cancel()
	<-result
	return err
}

func TestNodeThatHearsNothingAnyMoreSaysSo(t *testing.T) {
	ctx := t.Context()
	store := memory.New()
	failed := make(chan error, 1)
	s := silent{store.Node(), make(chan error)}
	r := open(t, s, func(c *Config) { c.OnFailure = func(err error) { failed <- err } })
	boom := errors.New("boom")
	s.err <- boom
	if err := <-failed; !errors.Is(err, boom) {
		t.Errorf("got %v", err)
	}
	_, err := r.CreateApplication(ctx, newApplication("my-app"))
	if messages.CodeOf(err) != messages.CodeUnavailable || !errors.Is(err, boom) {
		t.Errorf("got %v", err)
	}
	r.Close()
	if _, err := open(t, store).Application(ctx, "my-app"); err != nil {
		t.Errorf("what was written before the node noticed: %v", err)
	}
}

// halting is a node that needs a second try to find out what is new.
type halting struct {
	*memory.Node
	calls atomic.Int32
}

func (h *halting) SyncDocuments(ctx context.Context) error {
	if h.calls.Add(1)%2 == 0 {
		return persistencetest.ErrInjected
	}
	return h.Node.SyncDocuments(ctx)
}

// What is written is not answered with an error because the store does not tell of it at once.
func TestSyncIsTriedAgain(t *testing.T) {
	store := memory.New()
	h := &halting{Node: store.Node()}
	r := open(t, h)
	t.Cleanup(r.Close)
	must(t)(r.CreateApplication(t.Context(), newApplication("my-app")))
	must(t)(r.CreateDevice(t.Context(), newDevice("my-app", "dev-1", 7)))
	checkMemory(t, r, store)
	if h.calls.Load() < 4 {
		t.Errorf("%d calls", h.calls.Load())
	}
}

// mute is a node that tells nothing and fails.
type mute struct {
	*memory.Node
	err error
}

func (m mute) FollowDocuments(context.Context, func(messages.Document, bool)) error { return m.err }

func TestOpenEndsWhenTheStoreCanNotBeFollowed(t *testing.T) {
	boom := errors.New("boom")
	if _, err := Open(t.Context(), mute{memory.New().Node(), boom}, Config{}); !errors.Is(err, boom) {
		t.Errorf("got %v", err)
	}
	store := memory.New()
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), store.Node(), Config{}); messages.CodeOf(err) != messages.CodeUnavailable {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	cancel()
	if _, err := Open(ctx, memory.New().Node(), Config{}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestNothingOlderReplacesSomethingNewer(t *testing.T) {
	ctx := t.Context()
	store := memory.New()
	r := openNodes(t, onMemory(store), 1)[0]
	must(t)(r.CreateApplication(ctx, newApplication("my-app")))
	key, err := r.CreateAPIKey(ctx, "my-app", trafficKey)
	must(t)(key, err)
	doc, err := store.GetDocument(ctx, messages.KindAPIKey, key.ID)
	must(t)(doc, err)
	if err := r.DeleteAPIKey(ctx, "my-app", key.ID); err != nil {
		t.Fatal(err)
	}
	r.Close()
	r.follow.observe(doc, false) // told again after a lost connection
	if _, ok := r.keyFor(key.Key); ok {
		t.Error("a deleted key is back")
	}
}
