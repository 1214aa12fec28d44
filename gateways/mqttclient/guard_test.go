package mqttclient

import (
	"net"
	"strings"
	"testing"

	"lorikeet/gateways"
)

func TestAddressesThatAreNotAllowedAreNotDialled(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dialled := make(chan struct{}, 100)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			_ = conn.Close()
			dialled <- struct{}{}
		}
	}()
	defer func() { _ = listener.Close(); <-ended }()
	for _, scheme := range []string{"mqtt", "mqtts", "ws", "wss"} {
		cfg := config(listener.Addr().String(), "AT_LEAST_ONCE")
		cfg.MQTT.ServerURL = scheme + "://" + listener.Addr().String()
		failed := make(chan string, 1000)
		c := open(t, Config{PubSub: cfg, Guard: gateways.NewDialGuard(true, nil), Notify: func(_, reason string) {
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
	if len(dialled) > 0 {
		t.Error("the address was dialled")
	}
}
