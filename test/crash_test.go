package test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"lorikeet/cmd/lorikeet/simulator"
	v3 "lorikeet/messages/v3"
)

// TestKillLosesNothing kills the server with SIGKILL under load and starts it again, several times, and lets the devices go on meanwhile. What must
// hold: an uplink that a live subscriber has seen, and the newest that the session counts, come to the webhook too; none comes under two event ids;
// counters go on; and no FCntDown is on air with two contents (the simulator's ledger sees each downlink).
func TestKillLosesNothing(t *testing.T) {
	t.Parallel()
	const app, devices, kills = "crash-app", 20, 4
	p := start(t)
	key := p.application(app)
	h := newHook(t)
	p.call("POST", "/as/webhooks/"+app, webhookWithAll("hook", h.url, ""), nil)
	live := newInbox(t, "MQTT")
	mqttLogin(t, p.mqtt, app, key, func(o *mqtt.ClientOptions) {
		o.SetAutoReconnect(true).SetMaxReconnectInterval(50 * time.Millisecond).SetConnectRetry(true).SetConnectRetryInterval(50 * time.Millisecond)
		o.SetOnConnectHandler(func(c mqtt.Client) {
			c.Subscribe("v3/"+app+"/devices/+/up", 1, func(_ mqtt.Client, m mqtt.Message) { live.put(received{topic: m.Topic(), body: m.Payload()}) })
		})
	})

	cfg := simulator.DefaultConfig()
	cfg.HTTP, cfg.UDP, cfg.MQTT, cfg.AdminKey, cfg.APIKey, cfg.ApplicationID = "http://"+p.rest, p.udp, "tcp://"+p.mqtt, adminKey, key, app
	cfg.Devices, cfg.Gateways, cfg.Rate, cfg.Duration, cfg.Activation = devices, 2, 200, time.Hour, simulator.ABP // until it is stopped
	cfg.DownlinkEvery, cfg.ConfirmedDownlink, cfg.Confirmed, cfg.Persistent, cfg.RealTime = 5, true, 0.2, true, false
	cfg.KeepAlive = 100 * time.Millisecond
	cfg.StateFile = filepath.Join(t.TempDir(), "devices.json")
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	load, stopLoad := context.WithCancel(ctx)
	defer stopLoad()
	done := make(chan simulator.Report, 1)
	go func() {
		r, err := simulator.Run(load, cfg, io.Discard)
		if err != nil && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		done <- r
	}()
	for n := range kills + 1 {
		// Some hundred events come in between two kills, and after the last.
		seen := 0
		live.wait(fmt.Sprintf("%d events", (n+1)*250), func(received) bool { seen++; return seen >= (n+1)*250 })
		if n < kills {
			p.kill()
			p.run()
		}
	}
	stopLoad()
	report := <-done
	if report.FCntDownReused > 0 {
		t.Errorf("FCntDown used twice: %d times, first %s", report.FCntDownReused, report.FirstFault)
	}
	if report.Downlinks == 0 || report.PushedReceived == 0 {
		t.Errorf("no downlinks under load: %+v", report)
	}

	// One more uplink of each device shows that counters went on, and pushes what the webhook still waits for.
	cfg.Count, cfg.Duration, cfg.Rate, cfg.DownlinkEvery, cfg.Drain = devices, 0, 100, 0, patience
	last, err := simulator.Run(ctx, cfg, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if last.Events != devices || last.EventsDuplicate > 0 || last.FCntDownReused > 0 {
		t.Errorf("after the last start: %+v", last)
	}
	checkNothingIsMissing(t, p, app, cfg, live, h)
	p.terminate()
}

func checkNothingIsMissing(t *testing.T, p *process, app string, cfg simulator.Config, live *inbox, h *hook) {
	t.Helper()
	for i := range cfg.Devices {
		device := simulator.MakeIdentity(cfg.Seed, i, cfg.Activation).DeviceID
		var view v3.EndDevice
		p.call("GET", "/ns/applications/"+app+"/devices/"+device+"?field_mask=session", nil, &view)
		if view.Session == nil {
			t.Fatalf("%s has no session", device)
		}
		h.uplink(device, uint32(view.Session.LastFCntUp))
	}
	ids := map[string]string{}
	for _, r := range h.snapshot() {
		u := r.up.UplinkMessage
		if u == nil {
			continue
		}
		name, id := fmt.Sprintf("%s/%d", r.up.EndDeviceIDs.DeviceID, u.FCnt), r.header.Get("Idempotency-Key")
		if id == "" {
			t.Fatal("webhook requests carry no event id")
		}
		if was, ok := ids[name]; ok && was != id {
			t.Errorf("uplink %s came under two event ids: %s and %s", name, was, id)
		}
		ids[name] = id
	}
	for _, r := range live.snapshot() {
		if name := fmt.Sprintf("%s/%d", r.up.EndDeviceIDs.DeviceID, r.up.UplinkMessage.FCnt); ids[name] == "" {
			t.Errorf("uplink %s was seen by a live subscriber but did not come to the webhook", name)
		}
	}
	if len(ids) < 1000 {
		t.Errorf("only %d uplinks were accepted in all", len(ids))
	}
}

// TestKillDuringJoinsUsesNoNonceTwice kills the server while devices join. Those whose join-accept was lost join again; all must get through,
// and no JoinNonce may answer two join-requests (the simulator's devices watch for it).
func TestKillDuringJoinsUsesNoNonceTwice(t *testing.T) {
	t.Parallel()
	const app, devices, kills = "join-app", 60, 3
	p := start(t)
	key := p.application(app)
	h := newHook(t)
	p.call("POST", "/as/webhooks/"+app, webhookWithAll("hook", h.url, ""), nil)
	cfg := simulator.DefaultConfig()
	cfg.HTTP, cfg.UDP, cfg.MQTT, cfg.AdminKey, cfg.APIKey, cfg.ApplicationID = "http://"+p.rest, p.udp, "", adminKey, key, app
	cfg.Devices, cfg.Gateways, cfg.Rate, cfg.Count, cfg.KeepAlive, cfg.RealTime = devices, 4, 200, 2*devices, 50*time.Millisecond, false
	cfg.JoinRate, cfg.JoinTimeout, cfg.JoinAttempts, cfg.Drain = 40, 3*time.Second, 20, time.Second
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	done := make(chan simulator.Report, 1)
	go func() {
		r, err := simulator.Run(ctx, cfg, io.Discard)
		if err != nil {
			t.Error(err)
		}
		done <- r
	}()
	for n := range kills {
		joined := 0
		h.wait(fmt.Sprintf("joins before kill %d", n+1), func(r received) bool {
			if r.up.JoinAccept != nil {
				joined++
			}
			return joined >= 12*(n+1)
		})
		p.kill()
		p.run()
	}
	report := <-done
	if report.Active != devices || report.JoinNonceReused > 0 || report.FCntDownReused > 0 {
		t.Errorf("%+v", report)
	}
	for i := range devices {
		h.uplink(simulator.MakeIdentity(cfg.Seed, i, simulator.OTAA).DeviceID, 1)
	}
}

// TestStopAndStartKeepsSessionsAndQueue stops the server in order and starts it again.
func TestStopAndStartKeepsSessionsAndQueue(t *testing.T) {
	t.Parallel()
	id := simulator.MakeIdentity(11, 0, simulator.OTAA)
	e := startEverything(t, "app-restart", id, simulator.EU868, 2)
	e.join()
	tx := e.send(simulator.Uplink{FPort: 1, Payload: []byte{1, 1}})
	e.hook.uplink(id.DeviceID, tx.FCnt)
	e.pushes("app-restart")["REST"](object{"downlinks": []object{{"f_port": 4, "frm_payload": "BAQ=", "correlation_ids": []string{"over-the-restart"}}}})
	e.hook.down("queued", "over-the-restart")
	e.terminate()
	e.run()
	e.waitForPull()
	tx = e.send(simulator.Uplink{FPort: 1, Payload: []byte{1, 1}, Confirmed: true})
	if down := e.downlink(); !down.Ack || down.FPort != 4 || string(down.Payload) != "\x04\x04" {
		t.Errorf("device got %+v", down)
	}
	for _, b := range e.inboxes() {
		if b != e.live { // its client does not reconnect
			b.uplink(id.DeviceID, tx.FCnt)
			b.down("sent", "over-the-restart")
		}
	}
}
