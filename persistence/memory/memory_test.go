package memory_test

import (
	"testing"

	"lorikeet/persistence/memory"
	"lorikeet/persistence/persistencetest"
)

func TestContract(t *testing.T) {
	t.Parallel()
	persistencetest.Run(t, persistencetest.Options{Dense: true}, func(*testing.T) persistencetest.Store { return memory.New() })
}

func TestSharedContract(t *testing.T) {
	t.Parallel()
	persistencetest.RunShared(t, func(_ *testing.T, n int) []persistencetest.SharedStore {
		store := memory.New()
		nodes := make([]persistencetest.SharedStore, n)
		for i := range nodes {
			nodes[i] = store.Node()
		}
		return nodes
	})
}

// What one node sees of a shared store is a whole store.
func TestContractOfANode(t *testing.T) {
	t.Parallel()
	persistencetest.Run(t, persistencetest.Options{Dense: true}, func(*testing.T) persistencetest.Store { return memory.New().Node() })
}
