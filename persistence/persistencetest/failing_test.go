package persistencetest_test

import (
	"errors"
	"testing"

	"lorikeet/messages"
	"lorikeet/persistence/memory"
	"lorikeet/persistence/persistencetest"
)

// Every call fails once, at its turn, with and without effect.
func TestFailing(t *testing.T) {
	t.Parallel()
	for _, after := range []bool{false, true} {
		n := 1
		for ; ; n++ {
			s := persistencetest.NewFailing(memory.New(), n, after)
			rev, err := s.Commit(t.Context(), messages.Commit{Device: messages.DeviceID{ApplicationID: "a", DeviceID: "b"}, Session: []byte("x")})
			_, got, err2 := s.LoadSession(t.Context(), messages.DeviceID{ApplicationID: "a", DeviceID: "b"})
			err3 := s.SaveCursor(t.Context(), "a/b", 1)
			_, ok, err4 := s.LoadCursor(t.Context(), "a/b")
			if !s.Failed() {
				break
			}
			for i, e := range []error{err, err2, err3, err4} {
				if errors.Is(e, persistencetest.ErrInjected) != (i+1 == n) {
					t.Errorf("after=%v n=%d: call %d gives %v", after, n, i+1, e)
				}
			}
			if n == 1 && (rev != 0 || (got != 0) != after) || n == 3 && ok != after {
				t.Errorf("after=%v n=%d: revision %d, then %d, cursor %v", after, n, rev, got, ok)
			}
		}
		if n != 5 {
			t.Errorf("the loop ended at %d", n)
		}
	}
}
