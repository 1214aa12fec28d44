package badger

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	bdb "github.com/dgraph-io/badger/v4"
	"github.com/prometheus/client_golang/prometheus"

	"lorikeet/messages"
	"lorikeet/persistence"
)

var testDevice = messages.DeviceID{ApplicationID: "app", DeviceID: "dev"}

func testEvent(n int) messages.Event {
	return messages.Event{ID: fmt.Sprint(n), Device: testDevice, Type: messages.EventUplink, Time: time.Unix(int64(n), 0).UTC(), JSON: fmt.Appendf(nil, `{"n":%d}`, n)}
}

func commitRequest(t *testing.T, s *Store, c messages.Commit) (*request, *commitOp) {
	t.Helper()
	o := &commitOp{commit: c, key: sessionKey(c.Device), bytes: 500}
	if c.Session != nil {
		record, err := s.cfg.Sealer.Seal(newRecord(0), o.key, c.Session)
		if err != nil {
			t.Fatal(err)
		}
		o.session = record
		o.bytes += len(record)
	}
	for i := range c.Events {
		o.events = append(o.events, encodeEvent(&c.Events[i]))
		o.bytes += len(o.events[i])
	}
	return &request{ctx: t.Context(), op: o, done: make(chan struct{})}, o
}

// Several commits of one device in one batch see each other.
func TestBatchChainsCommits(t *testing.T) {
	t.Parallel()
	s := mustOpen(t, testConfig(t.TempDir()))
	var syncs int
	s.cfg.commit = func(txn *bdb.Txn) error { syncs++; return txn.Commit() }
	base := messages.Revision(s.state.writes)
	var requests []*request
	var ops []*commitOp
	for i, expected := range []messages.Revision{0, base + 1, base + 1, base + 2, 0} {
		r, o := commitRequest(t, s, messages.Commit{Device: testDevice, Expected: expected, Session: fmt.Append(nil, i), Events: []messages.Event{testEvent(i)}})
		requests, ops = append(requests, r), append(ops, o)
	}
	s.process(requests)
	for i, wantErr := range []error{nil, nil, messages.ErrConflict, nil, messages.ErrConflict} {
		if !errors.Is(requests[i].err, wantErr) {
			t.Errorf("request %d: %v, want %v", i, requests[i].err, wantErr)
		}
	}
	if syncs != 1 {
		t.Errorf("%d transactions for one batch", syncs)
	}
	session, rev, err := s.LoadSession(t.Context(), testDevice)
	if err != nil || string(session) != "3" || rev != ops[3].result || rev != base+3 {
		t.Errorf("session is %q at %d, %v", session, rev, err)
	}
	entries, err := s.ReadLog(t.Context(), "app", 0, 10)
	if err != nil || len(entries) != 3 || entries[2].ID != "3" {
		t.Errorf("log is %+v, %v", entries, err)
	}
}

// A batch that does not fit into one transaction is split between requests, never within one.
func TestBatchIsSplit(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := mustOpen(t, testConfig(dir))
	var syncs int
	s.cfg.commit = func(txn *bdb.Txn) error { syncs++; return txn.Commit() }
	big := testEvent(1)
	big.JSON = make([]byte, persistence.MaxRecord)
	const n = 8
	var requests []*request
	for range n {
		r, _ := commitRequest(t, s, messages.Commit{Device: testDevice, Events: []messages.Event{big, big}})
		requests = append(requests, r)
	}
	s.process(requests)
	for i, r := range requests {
		if r.err != nil {
			t.Errorf("request %d: %v", i, r.err)
		}
	}
	if syncs != n {
		t.Errorf("%d transactions for %d requests of 2 MB", syncs, n)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = mustOpen(t, testConfig(dir))
	if _, last, err := s.LogRange(t.Context(), "app"); err != nil || last != 2*n {
		t.Errorf("log ends at %d, %v", last, err)
	}
}

// The largest change that is allowed fits into a transaction, also as the last one of a full batch.
func TestLargestChangeFits(t *testing.T) {
	t.Parallel()
	s := mustOpen(t, testConfig(t.TempDir()))
	var writes []messages.Write
	for i := range persistence.MaxWrites {
		writes = append(writes, messages.Write{Kind: messages.KindDevice, ID: fmt.Sprintf("%0300d", i), Value: []byte{}})
	}
	if err := s.WriteDocuments(t.Context(), writes); err != nil {
		t.Error(err)
	}
	small, _ := commitRequest(t, s, messages.Commit{Device: testDevice, Session: make([]byte, persistence.MaxRecord), Events: []messages.Event{testEvent(1)}})
	huge := make([]byte, persistence.MaxRecord)
	large, _ := commitRequest(t, s, messages.Commit{Device: testDevice, Events: []messages.Event{{Device: testDevice, JSON: huge}, {Device: testDevice, JSON: huge}, {Device: testDevice, JSON: huge[:len(huge)-600]}}})
	s.process([]*request{small, large})
	if err := errors.Join(small.err, large.err); err != nil {
		t.Error(err)
	}
}

func TestFailedCommitStopsAllWrites(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	failures := make(chan error, 2)
	var broken atomic.Bool
	cfg := testConfig(dir)
	registry := prometheus.NewRegistry()
	cfg.Metrics = registry
	cfg.OnFailure = func(err error) { failures <- err }
	cfg.commit = func(txn *bdb.Txn) error {
		if broken.Load() {
			return errors.New("input/output error")
		}
		return txn.Commit()
	}
	s := mustOpen(t, cfg)
	ctx := t.Context()
	rev, err := s.Commit(ctx, messages.Commit{Device: testDevice, Session: []byte("x"), Events: []messages.Event{testEvent(1)}})
	if err != nil {
		t.Fatal(err)
	}
	changed, cancel := s.WatchLog("app")
	defer cancel()
	broken.Store(true)
	c := messages.Commit{Device: testDevice, Expected: rev, Session: []byte("y"), Events: []messages.Event{testEvent(2)}}
	if _, err := s.Commit(ctx, c); messages.CodeOf(err) != messages.CodeUnavailable || !strings.Contains(err.Error(), "input/output error") {
		t.Fatalf("commit on a broken disk: %v", err)
	}
	if err := <-failures; !strings.Contains(err.Error(), "restart") {
		t.Errorf("OnFailure got %v", err)
	}
	broken.Store(false) // the disk seems well again: nothing is believed any more
	if _, err := s.Commit(ctx, c); messages.CodeOf(err) != messages.CodeUnavailable {
		t.Errorf("commit after the failure: %v", err)
	}
	if err := s.SaveCursor(ctx, "app/x", 1); messages.CodeOf(err) != messages.CodeUnavailable {
		t.Errorf("cursor after the failure: %v", err)
	}
	// What was not acknowledged is not shown.
	if session, _, err := s.LoadSession(ctx, testDevice); err != nil || string(session) != "x" {
		t.Errorf("session after the failure: %q, %v", session, err)
	}
	select {
	case <-changed:
		t.Error("watchers were told of events that are not durable")
	default:
	}
	if n := metric(t, registry, "lorikeet_store_failures_total"); n != 1 {
		t.Errorf("failures counted: %v", n)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if len(failures) != 0 {
		t.Error("OnFailure was called twice")
	}
	s = mustOpen(t, testConfig(dir))
	if session, got, err := s.LoadSession(ctx, testDevice); err != nil || string(session) != "x" || got != rev {
		t.Errorf("session after the restart: %q at %d, %v", session, got, err)
	}
}

// A request whose caller gave up before its turn is not carried out.
func TestAbandonedRequestIsNotWritten(t *testing.T) {
	t.Parallel()
	s := mustOpen(t, testConfig(t.TempDir()))
	ctx, cancel := context.WithCancel(t.Context())
	r, _ := commitRequest(t, s, messages.Commit{Device: testDevice, Session: []byte("x")})
	r.ctx = ctx
	cancel()
	s.process([]*request{r})
	if !errors.Is(r.err, context.Canceled) {
		t.Errorf("request: %v", r.err)
	}
	if session, _, err := s.LoadSession(t.Context(), testDevice); err != nil || session != nil {
		t.Errorf("session: %q, %v", session, err)
	}
}

// A caller that gives up while its request is on its way learns that the outcome is unknown.
func TestTimeoutMeansUnknown(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t.TempDir())
	entered, proceed := make(chan struct{}), make(chan struct{})
	var block atomic.Bool
	cfg.commit = func(txn *bdb.Txn) error {
		if block.CompareAndSwap(true, false) {
			close(entered)
			<-proceed
		}
		return txn.Commit()
	}
	s := mustOpen(t, cfg)
	ctx, cancel := context.WithCancel(t.Context())
	block.Store(true)
	result := make(chan error, 1)
	go func() {
		_, err := s.Commit(ctx, messages.Commit{Device: testDevice, Session: []byte("x")})
		result <- err
	}()
	<-entered
	cancel()
	if err := <-result; !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "not known") {
		t.Errorf("commit: %v", err)
	}
	close(proceed)
	if err := s.SaveCursor(t.Context(), "app/x", 1); err != nil { // comes after it
		t.Fatal(err)
	}
	if session, _, err := s.LoadSession(t.Context(), testDevice); err != nil || string(session) != "x" {
		t.Errorf("session: %q, %v", session, err)
	}
}

// metric gives the sum of all counters of a name, or the number of observations.
func metric(t *testing.T, registry *prometheus.Registry, name string) (sum float64) {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			for _, m := range f.GetMetric() {
				sum += m.GetCounter().GetValue() + float64(m.GetHistogram().GetSampleCount())
			}
			return sum
		}
	}
	t.Fatalf("no metric %s", name)
	return 0
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t.TempDir())
	registry := prometheus.NewRegistry()
	cfg.Metrics = registry
	s := mustOpen(t, cfg)
	if _, err := s.Commit(t.Context(), messages.Commit{Device: testDevice, Session: []byte("x"), Events: []messages.Event{testEvent(1), testEvent(2)}}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Commit(t.Context(), messages.Commit{Device: testDevice, Session: []byte("x")}); !errors.Is(err, messages.ErrConflict) {
		t.Fatal(err)
	}
	for name, want := range map[string]float64{"lorikeet_store_writes_total": 2, "lorikeet_store_log_appended_total": 2, "lorikeet_store_commit_seconds": 1} {
		if got := metric(t, registry, name); got != want {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
	if _, err := Open(Config{Dir: t.TempDir(), Sealer: cfg.Sealer, MinFreeBytes: 1, Metrics: registry}); err == nil {
		t.Error("two stores with one registry")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	mustOpen(t, cfg) // its metrics were given back
}

// An uplink is one session record and one event of about 1 KB.
func BenchmarkCommit(b *testing.B) {
	for _, callers := range []int{1, 64, 512} {
		b.Run(fmt.Sprint(callers), func(b *testing.B) {
			s := mustOpen(b, testConfig(b.TempDir()))
			json, session := []byte(strings.Repeat(`{"key":"value"},`, 64)), make([]byte, 300)
			var next atomic.Int64
			done := make(chan error, callers)
			b.ReportAllocs()
			b.ResetTimer()
			for i := range callers {
				go func() {
					d := messages.DeviceID{ApplicationID: "app", DeviceID: fmt.Sprintf("device-%d", i)}
					e := messages.Event{ID: "0123456789abcdef", Device: d, Type: messages.EventUplink, Time: time.Now(), JSON: json}
					var rev messages.Revision
					var err error
					for err == nil && next.Add(1) <= int64(b.N) {
						rev, err = s.Commit(context.Background(), messages.Commit{Device: d, Expected: rev, Session: session, Events: []messages.Event{e}})
					}
					done <- err
				}()
			}
			for range callers {
				if err := <-done; err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "commits/s")
		})
	}
}

func BenchmarkScanSessions(b *testing.B) {
	s := mustOpen(b, testConfig(b.TempDir()))
	const n = 100_000
	for from := 0; from < n; from += 1000 {
		var requests []*request
		for i := range 1000 {
			key := sessionKey(messages.DeviceID{ApplicationID: "app", DeviceID: fmt.Sprintf("device-%07d", from+i)})
			record, err := s.cfg.Sealer.Seal(newRecord(0), key, make([]byte, 300))
			if err != nil {
				b.Fatal(err)
			}
			requests = append(requests, &request{ctx: b.Context(), op: &commitOp{key: key, session: record, bytes: 1000}, done: make(chan struct{})})
		}
		s.process(requests)
	}
	for b.Loop() {
		seen := 0
		if err := s.ScanSessions(b.Context(), func(messages.DeviceID, []byte, messages.Revision) error { seen++; return nil }); err != nil || seen != n {
			b.Fatal(seen, err)
		}
	}
}
