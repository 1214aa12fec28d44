package test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"lorikeet/cmd/lorikeet/simulator"
	v3 "lorikeet/messages/v3"
)

// durableClient is a stock client of a session that is kept. It reconnects by itself, to the first of its brokers that lets it in.
type durableClient struct {
	mqtt.Client
	name string

	mu   sync.Mutex
	last map[string]uint32 // FCnt by device
	seen map[string]int    // how often each uplink came
	odd  []string
}

func newDurableClient(t testing.TB, name, app, key string, qos byte, addrs ...string) *durableClient {
	t.Helper()
	c := &durableClient{name: name, last: map[string]uint32{}, seen: map[string]int{}}
	o := mqtt.NewClientOptions().SetClientID(name).SetUsername(app).SetPassword(key).SetProtocolVersion(4).SetCleanSession(false).SetOrderMatters(true).
		SetAutoReconnect(true).SetMaxReconnectInterval(50 * time.Millisecond).SetConnectRetry(true).SetConnectRetryInterval(50 * time.Millisecond)
	for _, addr := range addrs {
		o.AddBroker("tcp://" + addr)
	}
	o.SetDefaultPublishHandler(func(_ mqtt.Client, m mqtt.Message) { c.put(m) })
	c.Client = mqtt.NewClient(o)
	finish(t, c.Connect())
	finish(t, c.Subscribe("v3/"+app+"/devices/+/up", qos, nil)) // once for all
	t.Cleanup(func() { c.Disconnect(0) })
	return c
}

func (c *durableClient) put(m mqtt.Message) {
	var up v3.ApplicationUp
	err := json.Unmarshal(m.Payload(), &up)
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil || up.UplinkMessage == nil {
		c.odd = append(c.odd, fmt.Sprintf("no uplink on %s: %v", m.Topic(), err))
		return
	}
	device, fCnt := up.EndDeviceIDs.DeviceID, uint32(up.UplinkMessage.FCnt)
	name := fmt.Sprintf("%s/%d", device, fCnt)
	if last, known := c.last[device]; known && fCnt < last && c.seen[name] == 0 {
		c.odd = append(c.odd, fmt.Sprintf("%s came first after FCnt %d", name, last))
	}
	c.last[device] = max(c.last[device], fCnt)
	c.seen[name]++
}

func (c *durableClient) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.seen)
}

// await waits until the client has seen all of the uplinks.
func (c *durableClient) await(t testing.TB, uplinks []string) {
	t.Helper()
	for end := time.Now().Add(2 * patience); ; time.Sleep(20 * time.Millisecond) {
		missing := ""
		c.mu.Lock()
		for _, name := range uplinks {
			if c.seen[name] == 0 {
				missing = name
				break
			}
		}
		c.mu.Unlock()
		if missing == "" {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("%s: uplink %s never came", c.name, missing)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	repeats := 0
	for _, n := range c.seen {
		repeats += n - 1
	}
	t.Logf("%s: %d uplinks, %d repeats", c.name, len(c.seen), repeats)
	for _, text := range c.odd {
		t.Errorf("%s: %s", c.name, text)
	}
}

// uplinksOf are those that came to a webhook, each once.
func uplinksOf(h *hook) []string {
	all := map[string]bool{}
	for _, r := range h.snapshot() {
		if u := r.up.UplinkMessage; u != nil {
			all[fmt.Sprintf("%s/%d", r.up.EndDeviceIDs.DeviceID, u.FCnt)] = true
		}
	}
	return slices.Sorted(maps.Keys(all))
}

func simulate(t *testing.T, cfg simulator.Config) (stop func() simulator.Report) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	done := make(chan simulator.Report, 1)
	go func() {
		r, err := simulator.Run(ctx, cfg, io.Discard)
		if err != nil && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		done <- r
	}()
	stop = sync.OnceValue(func() simulator.Report { cancel(); return <-done })
	t.Cleanup(func() { stop() })
	return stop
}

// TestMQTTSessionSurvivesKill kills the server with SIGKILL under load, several times. Clients whose sessions are kept, of QoS 1 and 2, and one that is
// away meanwhile, get every uplink that the webhook gets, in the order of each device, over one subscription.
func TestMQTTSessionSurvivesKill(t *testing.T) {
	t.Parallel()
	const app, kills = "durable-app", 3
	p := start(t)
	key := p.application(app)
	h := newHook(t)
	p.call("POST", "/as/webhooks/"+app, webhookWithAll("hook", h.url, ""), nil)
	one, two := newDurableClient(t, "qos1", app, key, 1, p.mqtt), newDurableClient(t, "qos2", app, key, 2, p.mqtt)
	away := newDurableClient(t, "away", app, key, 1, p.mqtt)
	away.Disconnect(100)

	cfg := simulator.DefaultConfig()
	cfg.HTTP, cfg.UDP, cfg.MQTT, cfg.AdminKey, cfg.APIKey, cfg.ApplicationID = "http://"+p.rest, p.udp, "", adminKey, key, app
	cfg.Devices, cfg.Gateways, cfg.Rate, cfg.Duration, cfg.Activation, cfg.Persistent = 20, 2, 200, time.Hour, simulator.ABP, true
	cfg.KeepAlive, cfg.RealTime, cfg.StateFile = 100*time.Millisecond, false, filepath.Join(t.TempDir(), "devices.json")
	stop := simulate(t, cfg)
	for n := range kills + 1 {
		for end := time.Now().Add(2 * patience); one.count() < 200*(n+1) || two.count() < 200*(n+1); time.Sleep(10 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("only %d and %d uplinks came", one.count(), two.count())
			}
		}
		if n < kills {
			p.kill()
			p.run()
		}
	}
	stop()
	uplinks := uplinksOf(h)
	one.await(t, uplinks)
	two.await(t, uplinks)
	if n := away.count(); n > 0 {
		t.Errorf("a client that was away got %d uplinks", n)
	}
	finish(t, away.Connect())
	away.await(t, uplinks)
	p.terminate()
}

// TestMQTTSessionMovesBetweenNodes has clients of two nodes, under load, whose nodes are killed in turn. They go on at the other node.
func TestMQTTSessionMovesBetweenNodes(t *testing.T) {
	t.Parallel()
	const app = "moving-app"
	c := startNodes(t, sharedNATS(startJetStream(t), 1), onLoopback(t), onLoopback(t))
	first := &process{t: t, rest: c.all[0].place.rest}
	key := first.application(app)
	h := newHook(t)
	first.call("POST", "/as/webhooks/"+app, webhookWithAll("hook", h.url, ""), nil)
	a, b := c.all[0].place.mqtt, c.all[1].place.mqtt
	one, two := newDurableClient(t, "qos1", app, key, 1, a, b), newDurableClient(t, "qos2", app, key, 2, b, a)

	cfg := simulator.DefaultConfig()
	cfg.HTTP, cfg.UDP, cfg.MQTT = c.addresses("http://", func(p place) string { return p.rest }), c.addresses("", func(p place) string { return p.udp }), ""
	cfg.AdminKey, cfg.APIKey, cfg.ApplicationID = adminKey, key, app
	cfg.Devices, cfg.Gateways, cfg.Rate, cfg.Duration, cfg.Activation, cfg.Persistent = 20, 4, 100, time.Hour, simulator.ABP, true
	cfg.KeepAlive, cfg.RealTime, cfg.StateFile = 100*time.Millisecond, false, filepath.Join(t.TempDir(), "devices.json")
	stop := simulate(t, cfg)
	for n := range 3 {
		c.until(fmt.Sprintf("%d uplinks at both clients", 150*(n+1)), func() bool { return one.count() >= 150*(n+1) && two.count() >= 150*(n+1) })
		if n < 2 {
			c.all[n].signal(syscall.SIGKILL)
		}
	}
	stop()
	c.waitReady()
	uplinks := uplinksOf(h)
	one.await(t, uplinks)
	two.await(t, uplinks)
	c.checkEnds()
}
