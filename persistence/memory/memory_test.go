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
