package test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	v3 "lorikeet/messages/v3"
)

// received is one event as an integration delivered it.
type received struct {
	topic  string // or the path of a webhook
	body   []byte
	header http.Header
	up     v3.ApplicationUp
}

// inbox keeps what came in and lets a test wait for it.
type inbox struct {
	t    testing.TB
	name string

	mu      sync.Mutex
	all     []received
	changed chan struct{} // closed and replaced with each arrival
}

func newInbox(t testing.TB, name string) *inbox {
	return &inbox{t: t, name: name, changed: make(chan struct{})}
}

func (b *inbox) put(r received) {
	if err := json.Unmarshal(r.body, &r.up); err != nil {
		b.t.Errorf("%s: %v: %s", b.name, err, r.body)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.all = append(b.all, r)
	close(b.changed)
	b.changed = make(chan struct{})
}

func (b *inbox) snapshot() []received {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]received(nil), b.all...)
}

// wait gives the first event that match accepts, now or later.
func (b *inbox) wait(what string, match func(received) bool) received {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for seen := 0; ; {
		b.mu.Lock()
		all, changed := b.all, b.changed
		b.mu.Unlock()
		for _, r := range all[seen:] {
			if match(r) {
				return r
			}
		}
		seen = len(all)
		select {
		case <-changed:
		case <-ctx.Done():
			for _, r := range all {
				b.t.Logf("%s has %s %s", b.name, r.topic, r.body)
			}
			b.t.Fatalf("%s: no %s", b.name, what)
		}
	}
}

// uplink waits for the uplink with the given counter of a device.
func (b *inbox) uplink(device string, fCnt uint32) received {
	b.t.Helper()
	return b.wait(fmt.Sprintf("uplink %d of %s", fCnt, device), func(r received) bool {
		u := r.up.UplinkMessage
		return u != nil && uint32(u.FCnt) == fCnt && r.up.EndDeviceIDs.DeviceID == device
	})
}

// down waits for a downlink event of a kind that carries a correlation id.
func (b *inbox) down(kind, correlationID string) received {
	b.t.Helper()
	return b.wait(fmt.Sprintf("down/%s with %s", kind, correlationID), func(r received) bool {
		var d *v3.ApplicationDownlink
		switch up := r.up; kind {
		case "queued":
			d = up.DownlinkQueued
		case "sent":
			d = up.DownlinkSent
		case "ack":
			d = up.DownlinkAck
		case "nack":
			d = up.DownlinkNack
		case "failed":
			if up.DownlinkFailed != nil {
				d = &up.DownlinkFailed.Downlink
			}
		}
		return d != nil && strings.Contains(strings.Join(append(r.up.CorrelationIDs, d.CorrelationIDs...), " "), correlationID)
	})
}

// mqttLogin connects a stock MQTT client.
func mqttLogin(t testing.TB, addr, user, password string, change func(*mqtt.ClientOptions)) mqtt.Client {
	t.Helper()
	o := mqtt.NewClientOptions().AddBroker("tcp://" + addr).SetUsername(user).SetPassword(password).SetOrderMatters(true)
	if change != nil {
		change(o)
	}
	c := mqtt.NewClient(o)
	finish(t, c.Connect())
	t.Cleanup(func() { c.Disconnect(0) })
	return c
}

func finish(t testing.TB, token mqtt.Token) {
	t.Helper()
	if !token.WaitTimeout(patience) {
		t.Fatal("MQTT: no answer")
	}
	if err := token.Error(); err != nil {
		t.Fatal(err)
	}
}

// mqttInbox subscribes with a stock MQTT client.
func mqttInbox(t testing.TB, c mqtt.Client, filter string, qos byte) *inbox {
	t.Helper()
	b := newInbox(t, "MQTT "+filter)
	finish(t, c.Subscribe(filter, qos, func(_ mqtt.Client, m mqtt.Message) {
		if strings.HasSuffix(m.Topic(), "/down/push") || strings.HasSuffix(m.Topic(), "/down/replace") {
			t.Errorf("%s: a command was echoed: %s", b.name, m.Topic())
			return
		}
		b.put(received{topic: m.Topic(), body: m.Payload()})
	}))
	return b
}

// hook is an HTTP endpoint for a webhook. While failing is set it answers 503.
type hook struct {
	*inbox
	url     string
	failing atomic.Bool
}

func newHook(t testing.TB) *hook {
	h := &hook{inbox: newInbox(t, "webhook")}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if h.failing.Load() || err != nil {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		h.put(received{topic: r.URL.Path, body: body, header: r.Header})
	}))
	t.Cleanup(s.Close)
	h.url = s.URL
	return h
}

// webhookWithAll is a webhook for every message type, each with its own path.
func webhookWithAll(id, baseURL, downlinkKey string) object {
	w := object{"ids": object{"webhook_id": id}, "base_url": baseURL, "format": "json", "downlink_api_key": downlinkKey, "headers": object{"X-Team": "blue"}}
	for _, t := range []string{"uplink_message", "join_accept", "downlink_ack", "downlink_nack", "downlink_sent", "downlink_failed", "downlink_queued"} {
		w[t] = object{"path": "/" + t + "{/devID}"}
	}
	return object{"webhook": w}
}
