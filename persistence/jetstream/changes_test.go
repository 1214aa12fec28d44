package jetstream

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"lorikeet/messages"
	"lorikeet/persistence"
	"lorikeet/persistence/jetstream/natsserver"
)

// notes collects what followers are told.
type notes struct {
	mu      sync.Mutex
	lines   []string
	changed chan struct{}
}

func newNotes() *notes { return &notes{changed: make(chan struct{}, 1)} }

func (n *notes) add(format string, args ...any) {
	n.mu.Lock()
	n.lines = append(n.lines, fmt.Sprintf(format, args...))
	n.mu.Unlock()
	select {
	case n.changed <- struct{}{}:
	default:
	}
}

func (n *notes) all() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.lines)
}

// await waits until a line is there.
func (n *notes) await(t *testing.T, line string) {
	t.Helper()
	for !slices.Contains(n.all(), line) {
		select {
		case <-n.changed:
		case <-t.Context().Done():
			t.Fatalf("%q does not come; there are %q", line, n.all())
		case <-time.After(time.Minute):
			t.Fatalf("%q does not come; there are %q", line, n.all())
		}
	}
}

func write(t *testing.T, s *Store, id, value string) {
	t.Helper()
	w := messages.Write{Kind: messages.KindDevice, ID: id}
	if value != "" {
		w.Value = []byte(value)
	}
	if err := s.WriteDocuments(t.Context(), []messages.Write{w}); err != nil {
		t.Fatal(err)
	}
}

func followDocuments(t *testing.T, s *Store) *notes {
	n := newNotes()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() {
		done <- s.FollowDocuments(ctx, func(d messages.Document, deleted bool) {
			n.add("%s %s %s %t", d.Kind, d.ID, d.Value, deleted)
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("follow documents: %v", err)
		}
	})
	return n
}

func TestFollowDocuments(t *testing.T) {
	t.Parallel()
	a := openSingle(t)
	b := mustOpen(t, Config{Conn: connect(t, singleServer(t)), Namespace: a.cfg.Namespace})
	ctx := t.Context()
	if err := b.SyncDocuments(ctx); err != nil { // nobody follows
		t.Fatal(err)
	}
	write(t, a, "app.one", "1")
	write(t, a, "app.gone", "x")
	write(t, a, "app.gone", "")
	n := followDocuments(t, b)
	n.await(t, "dev app.one 1 false")
	for i := range 20 {
		write(t, a, "app.two", fmt.Sprint(i))
		if err := b.SyncDocuments(ctx); err != nil {
			t.Fatal(err)
		}
		if want := fmt.Sprintf("dev app.two %d false", i); !slices.Contains(n.all(), want) {
			t.Fatalf("after SyncDocuments %q is not there", want)
		}
	}
	write(t, a, "app.one", "")
	if err := b.SyncDocuments(ctx); err != nil {
		t.Fatal(err)
	}
	if all := n.all(); all[len(all)-1] != "dev app.one  true" {
		t.Errorf("the last one is %q", all[len(all)-1])
	}
	// A page of another node has it too, in a moment.
	if docs, err := a.ListDocuments(ctx, messages.KindDevice, "", "", 0); err != nil || len(docs) != 1 || docs[0].ID != "app.two" {
		t.Errorf("%v, %v", docs, err)
	}
}

// Whoever creates a document where there was one expects nothing, and only one of two nodes can.
func TestTwoNodesCreateOneDocument(t *testing.T) {
	t.Parallel()
	a := openSingle(t)
	b := mustOpen(t, Config{Conn: connect(t, singleServer(t)), Namespace: a.cfg.Namespace})
	for round := range 10 {
		var wg sync.WaitGroup
		var errs [2]error
		for i, s := range []*Store{a, b} {
			wg.Go(func() {
				errs[i] = s.WriteDocuments(t.Context(), []messages.Write{
					{Kind: messages.KindDeviceEUI, ID: "0011", Value: []byte("x"), Expect: true},
					{Kind: messages.KindDevice, ID: fmt.Sprintf("app.%d", i), Value: []byte("x")},
				})
			})
		}
		wg.Wait()
		conflicts := 0
		for _, err := range errs {
			if errors.Is(err, messages.ErrConflict) {
				conflicts++
			} else if err != nil {
				t.Fatal(err)
			}
		}
		docs, err := a.ListDocuments(t.Context(), messages.KindDevice, "", "", 0)
		if err != nil {
			t.Fatal(err)
		}
		if more, err := b.ListDocuments(t.Context(), messages.KindDevice, "", "", 0); err != nil || conflicts != 1 || max(len(docs), len(more)) != 1 {
			t.Fatalf("round %d: %d conflicts, %d and %d documents, %v", round, conflicts, len(docs), len(more), err)
		}
		for _, s := range []*Store{a, b} {
			if err := s.WriteDocuments(t.Context(), []messages.Write{{Kind: messages.KindDeviceEUI, ID: "0011"}, {Kind: messages.KindDevice, ID: "app.0"}, {Kind: messages.KindDevice, ID: "app.1"}}); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// The largest change that is allowed is one batch where the server is ours; another server has a smaller limit, and the error says how to raise it.
func TestLargestChange(t *testing.T) {
	t.Parallel()
	s := openSingle(t)
	var writes []messages.Write
	for i := range persistence.MaxWrites {
		writes = append(writes, messages.Write{Kind: messages.KindDeviceEUI, ID: fmt.Sprintf("%016X", i), Value: []byte("app.dev"), Expect: i%2 == 0})
	}
	if err := s.WriteDocuments(t.Context(), writes); err != nil {
		t.Fatal(err)
	}
	if err := s.WriteDocuments(t.Context(), writes); !errors.Is(err, messages.ErrConflict) {
		t.Errorf("again: %v", err)
	}
	docs, err := s.ListDocuments(t.Context(), messages.KindDeviceEUI, "", "", 0)
	if err != nil || len(docs) != len(writes) || docs[4711].ID != writes[4711].ID {
		t.Errorf("%d documents, %v", len(docs), err)
	}
	n := 0
	if err := s.ScanDocuments(t.Context(), messages.KindDeviceEUI, func(messages.Document) error { n++; return nil }); err != nil || n != len(writes) {
		t.Errorf("scan gives %d, %v", n, err)
	}
}

func TestFollowEntries(t *testing.T) {
	t.Parallel()
	a := openSingle(t)
	b := mustOpen(t, Config{Conn: connect(t, singleServer(t)), Namespace: a.cfg.Namespace})
	follow := func(s *Store) *notes {
		n := newNotes()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			_ = s.FollowEntries(ctx, func(id messages.DeviceID, entry []byte) {
				n.add("%s %s %t", id, entry, entry == nil)
			}, func() { n.add("caught up") })
		}()
		t.Cleanup(func() { cancel(); <-done })
		return n
	}
	put := func(dev, entry string) {
		t.Helper()
		var e []byte
		if entry != "" {
			e = []byte(entry)
		}
		if err := a.PutEntry(t.Context(), messages.DeviceID{ApplicationID: "app", DeviceID: dev}, e); err != nil {
			t.Fatal(err)
		}
	}
	empty := follow(b)
	empty.await(t, "caught up")
	put("one", "1")
	put("two", "2")
	put("one", "3")
	put("two", "")
	put("two", "")
	empty.await(t, "app.two  true")
	// Of changes that follow each other quickly only the last may be told.
	if got := empty.all(); got[0] != "caught up" || !slices.Equal(got[len(got)-2:], []string{"app.one 3 false", "app.two  true"}) {
		t.Errorf("%q", got)
	}
	put("three", "4")
	n := follow(b)
	n.await(t, "caught up")
	if got := n.all(); !slices.Equal(got, []string{"app.one 3 false", "app.two  true", "app.three 4 false", "caught up"}) {
		t.Errorf("%q", got)
	}
	put("three", "5")
	n.await(t, "app.three 5 false")
}

// Followers, watchers and commits go on when the server has been away.
func TestServerRestart(t *testing.T) {
	t.Parallel()
	cfg := natsserver.Config{Name: "restarted", StoreDir: t.TempDir(), Listen: freePort(t), NoSync: true}
	start := func() *natsserver.Server {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		server, err := natsserver.Start(ctx, cfg)
		if err != nil {
			t.Fatal(err)
		}
		return server
	}
	server := start()
	defer func() { server.Close() }()
	lost := make(chan error, 10)
	nc, err := Connect(Options{URLs: []string{"nats://" + cfg.Listen}, OnState: func(err error) { lost <- err }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	s := mustOpen(t, Config{Conn: nc, Journals: 1})
	n := followDocuments(t, s)
	changed, cancel := s.WatchLog("app")
	defer cancel()
	rev := commit(t, s, messages.Commit{Device: testDevice, Session: []byte("1"), Events: []messages.Event{testEvent(1)}})
	write(t, s, "app.one", "1")
	n.await(t, "dev app.one 1 false")
	<-changed
	if got := readAll(t, s, "app"); len(got) != 1 {
		t.Fatalf("log is %v", got)
	}

	server.Close()
	if err := <-lost; err == nil {
		t.Error("OnState says that the connection is back")
	}
	if err := s.Ready(); messages.CodeOf(err) != messages.CodeUnavailable {
		t.Errorf("ready: %v", err)
	}
	done := make(chan messages.Revision)
	go func() { // waits for the server
		rev, err := s.Commit(t.Context(), messages.Commit{Device: testDevice, Expected: rev, Session: []byte("2"), Events: []messages.Event{testEvent(2)}})
		if err != nil {
			t.Error(err)
		}
		done <- rev
	}()
	server = start()
	if err := <-lost; err != nil {
		t.Error(err)
	}
	rev = <-done
	wantSession(t, s, testDevice, "2", rev)
	write(t, s, "app.two", "2")
	n.await(t, "dev app.two 2 false")
	if got := n.all(); !slices.Equal(got, []string{"dev app.one 1 false", "dev app.two 2 false"}) {
		t.Errorf("the follower was told %q", got)
	}
	commit(t, s, messages.Commit{Device: testDevice, Events: []messages.Event{testEvent(3)}})
	if got := readAll(t, s, "app"); fmt.Sprint(got) != "[1 2 3]" {
		t.Errorf("log is %v", got)
	}
	if err := s.Ready(); err != nil {
		t.Errorf("ready: %v", err)
	}
}

// Two nodes that both think they own a device: one wins each revision.
func TestTwoNodesRaceForADevice(t *testing.T) {
	t.Parallel()
	a := openSingle(t)
	b := mustOpen(t, Config{Conn: connect(t, singleServer(t)), Namespace: a.cfg.Namespace})
	var rev messages.Revision
	for round := range 30 {
		var revs [2]messages.Revision
		var wg sync.WaitGroup
		for i, s := range []*Store{a, b} {
			wg.Go(func() {
				got, err := s.Commit(t.Context(), messages.Commit{Device: testDevice, Expected: rev, Session: fmt.Append(nil, i), Events: []messages.Event{testEvent(round)}})
				if err != nil && !errors.Is(err, messages.ErrConflict) {
					t.Error(err)
				}
				revs[i] = got
			})
		}
		wg.Wait()
		if (revs[0] == 0) == (revs[1] == 0) {
			t.Fatalf("round %d: revisions %v", round, revs)
		}
		rev = max(revs[0], revs[1])
	}
	for _, s := range []*Store{a, b} {
		if got := readAll(t, s, "app"); len(got) != 30 {
			t.Errorf("%d events", len(got))
		}
	}
}
