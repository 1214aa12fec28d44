package registry

import (
	"sync"
	"testing"

	"lorikeet/messages"
	"lorikeet/persistence/memory"
)

func TestNoDevEUIIsGivenTwice(t *testing.T) {
	t.Parallel()
	store := memory.New()
	r := open(t, store)
	block := messages.EUI64{0x70, 0xB3, 0xD5, 0x7E, 0xD0, 0, 0xFF, 0}
	var mu sync.Mutex
	var wg sync.WaitGroup
	given := map[messages.EUI64]bool{}
	for range 8 {
		wg.Go(func() {
			for range 16 {
				eui, err := r.IssueDevEUI(t.Context(), block, 57)
				if err != nil {
					t.Error(err)
				}
				mu.Lock()
				given[eui] = true
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if len(given) != 128 || !given[block] || !given[messages.EUI64{0x70, 0xB3, 0xD5, 0x7E, 0xD0, 0, 0xFF, 0x7F}] {
		t.Errorf("%d different EUIs: %v", len(given), given)
	}
	_, err := open(t, store).IssueDevEUI(t.Context(), block, 57)
	wantError(t, err, "dev_eui_block_exhausted")
	must(t)(r.IssueDevEUI(t.Context(), messages.EUI64{2}, 40)) // another block
}
