package mqttclient

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"lorikeet/messages"
)

func TestAnEventThatIsTooLargeForTheServerIsRefusedForGood(t *testing.T) {
	t.Parallel()
	w := newWatcher()
	w.maxPayload = 1000
	_, at, _ := startBroker(t, "127.0.0.1:0", w)
	c := open(t, Config{PubSub: config(at, "AT_LEAST_ONCE")})
	large := event(1)
	large.JSON = []byte(`"` + strings.Repeat("x", 2000) + `"`)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for round := range uint64(2 * breaksBelieved) {
		deliver(t, c, event(2+round)) // others pass
		for {
			err := c.Deliver(ctx, large)
			if errors.Is(err, messages.ErrPermanent) {
				if round+1 < breaksBelieved || !strings.Contains(err.Error(), "2002 bytes") {
					t.Errorf("after %d breaks: %v", round+1, err)
				}
				return
			}
			if err == nil || ctx.Err() != nil {
				t.Fatalf("round %d: %v", round, err)
			}
			if strings.Contains(err.Error(), "broke") || strings.Contains(err.Error(), "lost") {
				break
			}
		}
	}
	t.Error("it is tried for ever")
}

func TestOnlyTheLargestEventIsToBlameForABreak(t *testing.T) {
	t.Parallel()
	var s suspects
	s.confirmed("small", 100)
	for range 100 {
		if s.broke("large", 200) {
			t.Fatal("blamed although nothing passed in between")
		}
	}
	for range 100 {
		s.confirmed("small", 100)
		if s.broke("as large as others", 100) {
			t.Fatal("blamed although the server took one of this size")
		}
	}
	for n := range breaksBelieved - 2 {
		s.confirmed("small", 100)
		if s.broke("large", 200) {
			t.Fatalf("blamed after %d breaks", n+2)
		}
	}
	s.confirmed("large", 200) // it was something else
	for range 100 {
		s.confirmed("small", 100)
		if s.broke("large", 200) {
			t.Fatal("blamed although it got through")
		}
	}
}
