package registry

import (
	"bytes"
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"lorikeet/persistence"
	"lorikeet/persistence/jetstream"
	"lorikeet/persistence/jetstream/natsserver"
	"lorikeet/persistence/memory"
)

// fleet is a shared store of some kind.
type fleet struct {
	fresh  func(t *testing.T)       // begins with an empty store
	node   func(t *testing.T) Store // one node's end of it
	rounds int                      // how often a race is tried
}

// onEachFleet runs a test with nodes on memory and on a real NATS server.
func onEachFleet(t *testing.T, test func(*testing.T, fleet)) {
	t.Run("memory", func(t *testing.T) {
		t.Parallel()
		test(t, onMemory(memory.New()))
	})
	t.Run("jetstream", func(t *testing.T) {
		t.Parallel()
		test(t, onJetStream(t))
	})
}

func onMemory(store *memory.Store) fleet {
	return fleet{fresh: func(*testing.T) { store = memory.New() }, node: func(*testing.T) Store { return store.Node() }, rounds: 20}
}

func onJetStream(t *testing.T) fleet {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	server, err := natsserver.Start(ctx, natsserver.Config{Name: "registry", StoreDir: t.TempDir(), NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	var namespaces atomic.Int32
	return fleet{rounds: 2, fresh: func(*testing.T) { namespaces.Add(1) }, node: func(t *testing.T) Store {
		t.Helper()
		nc, err := jetstream.Connect(jetstream.Options{Name: t.Name(), InProcess: server.ClientOptions()})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(nc.Close)
		s, err := jetstream.Open(t.Context(), jetstream.Config{
			Conn: nc, Namespace: fmt.Sprintf("n%d", namespaces.Load()), Sealer: persistence.NewSealer(persistence.KEK(bytes.Repeat([]byte{1}, 32))), Journals: 1,
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
		return s
	}}
}
