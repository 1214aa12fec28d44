package jetstream

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"lorikeet/messages"
	"lorikeet/persistence/jetstream/natsserver"
)

// benchConn connects to one server, or to three, that sync every write.
func benchConn(b *testing.B, servers int) *nats.Conn {
	b.Helper()
	if servers == 3 {
		return startTrioWith(b, false).connect(b)
	}
	ctx, cancel := context.WithTimeout(b.Context(), 20*time.Second)
	defer cancel()
	server, err := natsserver.Start(ctx, natsserver.Config{StoreDir: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(server.Close)
	return connect(b, server)
}

func benchEvent(d messages.DeviceID) messages.Event {
	return messages.Event{ID: "01J0000000000000000000000000", Device: d, Type: messages.EventUplink, Time: time.Now(), JSON: make([]byte, 900)}
}

// Commits of 500 bytes of session and 900 of event, over 10,000 devices in 50 applications.
func BenchmarkCommit(b *testing.B) {
	for _, servers := range []int{1, 3} {
		for _, callers := range []int{1, 64, 512} {
			b.Run(fmt.Sprintf("R%d/%d", servers, callers), func(b *testing.B) {
				s := mustOpen(b, Config{Conn: benchConn(b, servers), Replicas: servers, Journals: 8})
				session := make([]byte, 500)
				var left atomic.Int64
				left.Store(int64(b.N))
				times := make([][]time.Duration, callers)
				b.ResetTimer()
				var wg sync.WaitGroup
				for c := range callers {
					wg.Go(func() {
						revs := make(map[int]messages.Revision)
						for n := 0; left.Add(-1) >= 0; n++ {
							i := n % 20
							d := messages.DeviceID{ApplicationID: fmt.Sprintf("app-%d", (c+i)%50), DeviceID: fmt.Sprintf("dev-%d-%d", c, i)}
							start := time.Now()
							rev, err := s.Commit(b.Context(), messages.Commit{Device: d, Expected: revs[i], Session: session, Events: []messages.Event{benchEvent(d)}})
							if err != nil {
								b.Error(err)
								return
							}
							times[c] = append(times[c], time.Since(start))
							revs[i] = rev
						}
					})
				}
				wg.Wait()
				b.StopTimer()
				all := slices.Concat(times...)
				slices.Sort(all)
				b.ReportMetric(float64(len(all))/b.Elapsed().Seconds(), "commits/s")
				b.ReportMetric(float64(all[len(all)/2].Microseconds())/1000, "p50-ms")
				b.ReportMetric(float64(all[len(all)*99/100].Microseconds())/1000, "p99-ms")
			})
		}
	}
}

// Sessions from the leader, and the same by direct get.
func BenchmarkLoadSession(b *testing.B) {
	for _, servers := range []int{1, 3} {
		s := mustOpen(b, Config{Conn: benchConn(b, servers), Replicas: servers, Journals: 1})
		for i := range 1000 {
			d := messages.DeviceID{ApplicationID: "app", DeviceID: fmt.Sprint(i)}
			if _, err := s.Commit(b.Context(), messages.Commit{Device: d, Session: make([]byte, 500), Events: []messages.Event{benchEvent(d)}}); err != nil {
				b.Fatal(err)
			}
		}
		for _, callers := range []int{1, 64} {
			run := func(name string, load func(messages.DeviceID) error) {
				b.Run(fmt.Sprintf("%s/R%d/%d", name, servers, callers), func(b *testing.B) {
					b.SetParallelism(callers)
					if callers == 1 {
						for n := range b.N {
							if err := load(messages.DeviceID{ApplicationID: "app", DeviceID: fmt.Sprint(n % 1000)}); err != nil {
								b.Fatal(err)
							}
						}
						return
					}
					var n atomic.Int64
					b.RunParallel(func(pb *testing.PB) {
						for pb.Next() {
							if err := load(messages.DeviceID{ApplicationID: "app", DeviceID: fmt.Sprint(n.Add(1) % 1000)}); err != nil {
								b.Error(err)
							}
						}
					})
				})
			}
			run("leader", func(d messages.DeviceID) error { _, _, err := s.LoadSession(b.Context(), d); return err })
			stream, err := s.js.Stream(b.Context(), s.names.journal(0))
			if err != nil {
				b.Fatal(err)
			}
			run("direct", func(d messages.DeviceID) error {
				_, err := stream.GetLastMsgForSubject(b.Context(), s.names.device(d))
				return err
			})
		}
	}
}

// A log of 100,000 entries is read from its beginning, as by an integration that was away. Also what a directory of 100,000 entries costs.
func BenchmarkScan(b *testing.B) {
	const n = 100_000
	ctx, cancel := context.WithTimeout(b.Context(), 20*time.Second)
	defer cancel()
	server, err := natsserver.Start(ctx, natsserver.Config{StoreDir: b.TempDir(), NoSync: true})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(server.Close)
	s := mustOpen(b, Config{Conn: connect(b, server), Journals: 1})
	before := heap()
	fill(b, n, func(i int) error {
		return s.PutEntry(b.Context(), messages.DeviceID{ApplicationID: "app", DeviceID: fmt.Sprintf("dev-%07d", i)}, make([]byte, 60))
	})
	perEntry := float64(heap()-before) / n
	fill(b, n, func(i int) error {
		d := messages.DeviceID{ApplicationID: "app", DeviceID: fmt.Sprintf("dev-%04d", i%5000)}
		_, err := s.Commit(b.Context(), messages.Commit{Device: d, Events: []messages.Event{benchEvent(d)}})
		return err
	})
	b.Run("log", func(b *testing.B) {
		for range b.N {
			after, read := uint64(0), 0
			for {
				entries, err := s.ReadLog(b.Context(), "app", after, 256)
				if err != nil {
					b.Fatal(err)
				}
				if len(entries) == 0 {
					break
				}
				read += len(entries)
				after = entries[len(entries)-1].Seq
			}
			if read != n {
				b.Fatalf("%d entries", read)
			}
		}
		b.ReportMetric(float64(n*b.N)/b.Elapsed().Seconds(), "entries/s")
	})
	b.Run("directory", func(b *testing.B) {
		for range b.N {
			ctx, cancel := context.WithCancel(b.Context())
			_ = s.FollowEntries(ctx, func(messages.DeviceID, []byte) {}, cancel)
			cancel()
		}
		b.ReportMetric(float64(n*b.N)/b.Elapsed().Seconds(), "entries/s")
		b.ReportMetric(perEntry, "server-B/entry")
	})
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func fill(b *testing.B, n int, do func(i int) error) {
	b.Helper()
	var next atomic.Int64
	var wg sync.WaitGroup
	for range 256 {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				if err := do(i); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}
