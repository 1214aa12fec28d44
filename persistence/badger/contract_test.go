package badger

import (
	"bytes"
	"testing"

	"lorikeet/persistence"
	"lorikeet/persistence/persistencetest"
)

func testSealer(fill byte) *persistence.Sealer {
	return persistence.NewSealer(persistence.KEK(bytes.Repeat([]byte{fill}, 32)))
}

func testConfig(dir string) Config {
	return Config{Dir: dir, Sealer: testSealer(1), MinFreeBytes: 1 << 20}
}

func mustOpen(t testing.TB, cfg Config) *Store {
	t.Helper()
	s, err := Open(cfg)
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

func TestContract(t *testing.T) {
	t.Parallel()
	persistencetest.Run(t, persistencetest.Options{Dense: true}, func(t *testing.T) persistencetest.Store { return mustOpen(t, testConfig(t.TempDir())) })
}

func TestModel(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	persistencetest.Model(t, persistencetest.Options{Dense: true}, func(t *testing.T) persistencetest.Store { return mustOpen(t, testConfig(dir)) })
}
