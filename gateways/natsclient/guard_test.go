package natsclient

import (
	"strings"
	"testing"

	"lorikeet/gateways"
)

func TestAddressesThatAreNotAllowedAreNotDialled(t *testing.T) {
	t.Parallel()
	s, _ := startServer(t, -1, nil)
	for _, scheme := range []string{"nats", "tls", "ws", "wss"} {
		failed := make(chan string, 1)
		c := open(t, Config{PubSub: config(scheme + "://" + s.Addr().String()), Guard: gateways.NewDialGuard(true, nil), Notify: func(_, reason string) {
			select {
			case failed <- reason:
			default:
			}
		}})
		if reason := <-failed; !strings.Contains(reason, "not allowed for integrations") {
			t.Errorf("%s: %s", scheme, reason)
		}
		_ = c.Close()
	}
	if s.NumClients() != 0 {
		t.Error("the server was dialled")
	}
}
