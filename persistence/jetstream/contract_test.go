package jetstream

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"lorikeet/persistence"
	"lorikeet/persistence/jetstream/natsserver"
	"lorikeet/persistence/persistencetest"
)

func testSealer(fill byte) *persistence.Sealer {
	return persistence.NewSealer(persistence.KEK(bytes.Repeat([]byte{fill}, 32)))
}

// single is one server that the tests share; each store has its own namespace.
var single = struct {
	once   sync.Once
	server *natsserver.Server
	err    error
	dir    string
}{}

var namespaces atomic.Int64

func newNamespace() string { return fmt.Sprintf("t%d", namespaces.Add(1)) }

func TestMain(m *testing.M) {
	if err := flag.Set("rapid.checks", "8"); err != nil { // a server stands behind each step; -rapid.checks on the command line wins
		panic(err)
	}
	code := m.Run()
	if single.server != nil {
		single.server.Close()
	}
	if single.dir != "" {
		_ = os.RemoveAll(single.dir)
	}
	os.Exit(code)
}

func singleServer(t testing.TB) *natsserver.Server {
	t.Helper()
	single.once.Do(func() {
		if single.dir, single.err = os.MkdirTemp("", "lorikeet-nats-"); single.err != nil {
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		single.server, single.err = natsserver.Start(ctx, natsserver.Config{Name: "single", StoreDir: single.dir, Listen: "127.0.0.1:0", NoSync: true})
	})
	if single.err != nil {
		t.Fatal(single.err)
	}
	return single.server
}

func connect(t testing.TB, server *natsserver.Server) *nats.Conn {
	t.Helper()
	nc, err := Connect(Options{Name: t.Name(), InProcess: server.ClientOptions()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

func mustOpen(t testing.TB, cfg Config) *Store {
	t.Helper()
	if cfg.Sealer == nil {
		cfg.Sealer = testSealer(1)
	}
	if cfg.Namespace == "" {
		cfg.Namespace = newNamespace()
	}
	if cfg.Journals == 0 {
		cfg.Journals = 2
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	s, err := Open(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return s
}

func openSingle(t testing.TB) *Store {
	return mustOpen(t, Config{Conn: connect(t, singleServer(t))})
}

func TestSharedContract(t *testing.T) {
	t.Parallel()
	persistencetest.RunShared(t, func(t *testing.T, n int) []persistencetest.SharedStore {
		namespace := newNamespace()
		nodes := make([]persistencetest.SharedStore, n)
		for i := range nodes {
			nodes[i] = mustOpen(t, Config{Conn: connect(t, singleServer(t)), Namespace: namespace})
		}
		return nodes
	})
}

func TestExistsMakesNothing(t *testing.T) {
	t.Parallel()
	nc, namespace := connect(t, singleServer(t)), newNamespace()
	for range 2 {
		if ok, err := Exists(t.Context(), nc, "", namespace); ok || err != nil {
			t.Errorf("before: %v, %v", ok, err)
		}
	}
	mustOpen(t, Config{Conn: nc, Namespace: namespace})
	if ok, err := Exists(t.Context(), nc, "", namespace); !ok || err != nil {
		t.Errorf("after: %v, %v", ok, err)
	}
}

func TestContract(t *testing.T) {
	t.Parallel()
	persistencetest.Run(t, persistencetest.Options{}, func(t *testing.T) persistencetest.Store { return openSingle(t) })
}

func TestModel(t *testing.T) {
	t.Parallel()
	nc, ns := connect(t, singleServer(t)), newNamespace()
	persistencetest.Model(t, persistencetest.Options{}, func(t *testing.T) persistencetest.Store {
		return mustOpen(t, Config{Conn: nc, Namespace: ns})
	})
}
