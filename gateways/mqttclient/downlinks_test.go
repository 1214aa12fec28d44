package mqttclient

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"

	"lorikeet/messages"
	v3 "lorikeet/messages/v3"
)

// away are downlinks that are not available at first.
type away struct {
	downlinks
	failures atomic.Int32 // that are left
}

func (a *away) PushDownlinks(ctx context.Context, id messages.DeviceID, items []messages.Downlink) error {
	if a.failures.Add(-1) >= 0 {
		return messages.Errorf(messages.CodeInternal, "internal", "not now")
	}
	return a.downlinks.PushDownlinks(ctx, id, items)
}

func TestARequestWithQoS1IsCarriedOutOnceTheServerCan(t *testing.T) {
	w := newWatcher()
	s, at, _ := startBroker(t, "127.0.0.1:0", w)
	d := &away{downlinks: downlinks{calls: make(chan string, 10)}}
	d.failures.Store(3)
	c := open(t, Config{PubSub: config(at, "AT_LEAST_ONCE"), Downlinks: d})
	deliver(t, c, event(1))
	publish(t, s, "lora/app1/down/push", []byte(push1))
	if got := receive(t, d.calls); got != "push app1.dev1 1" { // and no failure before
		t.Error(got)
	}
	receive(t, w.acked)
}

func persistent(address string) v3.PubSub {
	p := config(address, "AT_LEAST_ONCE")
	p.MQTT.ClientID, p.MQTT.PersistentSession = "lorikeet-app1", true
	return p
}

func TestAPersistentSessionKeepsRequests(t *testing.T) {
	w := newWatcher()
	s, at, _ := startBroker(t, "127.0.0.1:0", w)
	d := &downlinks{calls: make(chan string, 100)}
	c := open(t, Config{PubSub: persistent(at), Downlinks: d})
	deliver(t, c, event(1))
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	const requests = 10
	for i := range requests {
		publish(t, s, "lora/app1/down/push", fmt.Appendf(nil, `{"end_device_ids":{"device_id":"dev%d"},"downlinks":[]}`, i))
	}
	p := persistent(at)
	p.DownlinkPush = nil // what comes on a topic of before is acknowledged and dropped
	c = open(t, Config{PubSub: p, Downlinks: d})
	for range requests {
		receive(t, w.acked)
	}
	_ = c.Close()
	if len(d.calls) != 0 {
		t.Error(receive(t, d.calls))
	}
	for i := range requests {
		publish(t, s, "lora/app1/down/push", fmt.Appendf(nil, `{"end_device_ids":{"device_id":"dev%d"},"downlinks":[]}`, i))
	}
	open(t, Config{PubSub: persistent(at), Downlinks: d})
	seen := map[string]bool{}
	for len(seen) < requests {
		seen[receive(t, d.calls)] = true
		receive(t, w.acked)
	}
}

func TestSessionsThatWouldLoseAreRefused(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*v3.MQTTProvider){
		"no client id":        func(m *v3.MQTTProvider) { m.ClientID = "" },
		"requests with QoS 0": func(m *v3.MQTTProvider) { m.SubscribeQoS = "" },
		"events with QoS 2":   func(m *v3.MQTTProvider) { m.PublishQoS = v3.QoSExactlyOnce },
	} {
		p := persistent("127.0.0.1:1883")
		change(p.MQTT)
		if err := Check(p); messages.CodeOf(err) != messages.CodeInvalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := Check(persistent("127.0.0.1:1883")); err != nil {
		t.Error(err)
	}
}
