package test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"lorikeet/cmd/lorikeet/simulator"
	"lorikeet/messages"
	v3 "lorikeet/messages/v3"
)

// outageHook is an endpoint that can be down. It drops repeats by the event id, and notes what must not be.
type outageHook struct {
	url string

	mu      sync.Mutex
	down    bool
	refused int // requests while it was down
	ids     map[string]string
	last    map[string]uint32 // FCnt by device
	repeats int
	faults  []string
	changed chan struct{} // closed and replaced with each arrival
}

func newOutageHook(t testing.TB) *outageHook {
	h := &outageHook{ids: map[string]string{}, last: map[string]uint32{}, changed: make(chan struct{})}
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	h.url = s.URL
	return h
}

func (h *outageHook) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.down || err != nil {
		h.refused++
		if conn, _, err := http.NewResponseController(w).Hijack(); err == nil {
			_ = conn.Close()
		}
		return
	}
	var up v3.ApplicationUp
	if err := json.Unmarshal(body, &up); err != nil || up.UplinkMessage == nil {
		h.faults = append(h.faults, fmt.Sprintf("not an uplink: %v %.200s", err, body))
		return
	}
	device, fCnt := up.EndDeviceIDs.DeviceID, uint32(up.UplinkMessage.FCnt)
	name, id := fmt.Sprintf("%s/%d", device, fCnt), r.Header.Get("Idempotency-Key")
	was, repeated := h.ids[id]
	last, known := h.last[device]
	switch {
	case repeated && was == name:
		h.repeats++
	case repeated || id == "":
		h.faults = append(h.faults, fmt.Sprintf("event id %q of %s and %s", id, was, name))
	case known && fCnt <= last:
		h.faults = append(h.faults, fmt.Sprintf("%s after FCnt %d", name, last))
	default:
		h.ids[id], h.last[device] = name, fCnt
	}
	close(h.changed)
	h.changed = make(chan struct{})
}

func (h *outageHook) setDown(down bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.down = down
}

// wait returns when there were n different events.
func (h *outageHook) wait(t testing.TB, n int) {
	t.Helper()
	limit := time.After(3 * time.Minute) // a probe of an open circuit may be half a minute away
	for {
		h.mu.Lock()
		got, changed := len(h.ids), h.changed
		h.mu.Unlock()
		if got >= n {
			return
		}
		select {
		case <-changed:
		case <-limit:
			t.Fatalf("%d of %d events came to the webhook", got, n)
		}
	}
}

// check fails if there was a wrong event, and resets nothing.
func (h *outageHook) check(t testing.TB, n int) {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.ids) != n || len(h.faults) > 0 {
		t.Errorf("%d different events, want %d; %d faults, first: %.300v", len(h.ids), n, len(h.faults), h.faults[:min(len(h.faults), 1)])
	}
}

// outage is a load whose events go to a webhook that can be down, and to a live subscriber.
type outage struct {
	t   testing.TB
	cfg simulator.Config
	*outageHook
	sent int
}

func newOutage(t testing.TB, p *process, rate float64) *outage {
	t.Helper()
	const app, devices = "outage-app", 50
	o := &outage{t: t, cfg: simulator.DefaultConfig(), outageHook: newOutageHook(t)}
	key := p.application(app)
	p.call("POST", "/as/webhooks/"+app, object{"webhook": object{"ids": object{"webhook_id": "hook"}, "base_url": o.url, "format": "json", "uplink_message": object{}}}, nil)
	cfg := &o.cfg
	cfg.HTTP, cfg.UDP, cfg.MQTT, cfg.AdminKey, cfg.APIKey, cfg.ApplicationID = "http://"+p.rest, p.udp, "tcp://"+p.mqtt, adminKey, key, app
	cfg.Devices, cfg.Gateways, cfg.Rate, cfg.Duration, cfg.Activation = devices, 2, rate, 0, simulator.ABP
	cfg.StateFile, cfg.Drain = filepath.Join(t.TempDir(), "devices.json"), time.Minute
	o.run(2 * devices) // registers the devices and teaches the server who hears them
	return o
}

// run sends n uplinks. The latencies of the report are from the radio gateway to the live subscriber.
func (o *outage) run(n int) simulator.Report {
	o.t.Helper()
	o.cfg.Count = n
	r, err := simulator.Run(context.Background(), o.cfg, io.Discard)
	if err != nil {
		o.t.Fatal(err)
	}
	if r.Events != uint64(n) || r.EventsMissing > 0 || r.EventsDuplicate > 0 {
		o.t.Fatalf("the live subscriber: %+v", r)
	}
	o.sent += n
	return r
}

// upAndDown runs the load with the endpoint up, and with the endpoint down all the time; then all of it must come.
func (o *outage) upAndDown(n int) (up, down simulator.Report) {
	o.t.Helper()
	up = o.run(n)
	o.wait(o.t, o.sent)
	before := o.sent
	o.setDown(true)
	down = o.run(n)
	o.check(o.t, before) // nothing came through
	o.setDown(false)
	o.wait(o.t, o.sent)
	o.check(o.t, o.sent)
	return up, down
}

// TestWebhookThatIsDownGetsEverythingAfterwards: an endpoint that is down for a whole run gets every event of it later, in order per device, each once
// when it drops repeats by the event id, while a live subscriber gets all of them meanwhile.
func TestWebhookThatIsDownGetsEverythingAfterwards(t *testing.T) {
	t.Parallel()
	p := start(t)
	const uplinks = 2000
	h := newOutage(t, p, 400)
	up, down := h.upAndDown(uplinks)
	t.Logf("p50 and p99 with the endpoint up: %v, %v; down: %v, %v; %d requests while down, %d repeats", up.LatencyP50, up.LatencyP99, down.LatencyP50, down.LatencyP99, h.refused, h.repeats)
	if h.refused == 0 {
		t.Error("the endpoint was not tried while it was down")
	}
	var got struct {
		Status messages.DeliveryStatus `json:"status"`
	}
	p.until("the webhook has caught up", func() bool {
		p.call("GET", "/as/webhooks/outage-app/hook/status", nil, &got)
		return got.Status.State == "running" && got.Status.Lag == 0 && got.Status.Delivered >= 2*uplinks
	})
	if got.Status.DeadLetters > 0 || got.Status.Lost > 0 || got.Status.Failed == 0 {
		t.Errorf("%+v", got.Status)
	}
	p.terminate()
}

// until asks again until a condition holds.
func (p *process) until(what string, holds func() bool) {
	p.t.Helper()
	tick, limit := time.NewTicker(20*time.Millisecond), time.After(time.Minute)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-limit:
			p.t.Fatalf("not in time: %s", what)
		}
	}
}

// BenchmarkWebhookOutage shows what a dead endpoint costs the radio side: 10,000 uplinks with the endpoint up, and 10,000 with the endpoint down, which all
// arrive later; three times, since the store writes a table out every 15,000 commits or so, and who meets that has another p99. The medians count.
func BenchmarkWebhookOutage(b *testing.B) {
	for b.Loop() {
		p := start(b, "LORIKEET_LOG_LEVEL=error")
		o := newOutage(b, p, 500)
		all := map[string][]float64{}
		for range 3 {
			up, down := o.upAndDown(10_000)
			for name, r := range map[string]simulator.Report{"up": up, "down": down} {
				all[name+"-p50-ms"] = append(all[name+"-p50-ms"], time.Duration(r.LatencyP50).Seconds()*1000)
				all[name+"-p99-ms"] = append(all[name+"-p99-ms"], time.Duration(r.LatencyP99).Seconds()*1000)
			}
		}
		b.ReportMetric(0, "ns/op")
		for name, values := range all {
			b.Logf("%s: %.1f", name, values)
			slices.Sort(values)
			b.ReportMetric(values[1], name)
		}
		b.ReportMetric(float64(o.repeats), "repeats")
		p.terminate()
	}
}

// TestDeadLettersAndReplayByREST: an event that the endpoint refuses is listed, over a crash too, and arrives when it is driven again; a replay repeats
// events with the same ids.
func TestDeadLettersAndReplayByREST(t *testing.T) {
	t.Parallel()
	p := start(t)
	const app, base = "letters-app", "/as/webhooks/letters-app/hook"
	p.application(app)
	var mu sync.Mutex
	var got []string
	refuse := "dev2"
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var up v3.ApplicationUp
		if err := json.NewDecoder(r.Body).Decode(&up); err != nil {
			t.Error(err)
		}
		mu.Lock()
		defer mu.Unlock()
		if up.EndDeviceIDs.DeviceID == refuse {
			http.Error(w, "no such sensor", http.StatusUnprocessableEntity)
			return
		}
		got = append(got, r.Header.Get("Idempotency-Key"))
	}))
	t.Cleanup(s.Close)
	arrived := func() []string { mu.Lock(); defer mu.Unlock(); return append([]string(nil), got...) }
	p.call("POST", "/as/webhooks/"+app, object{"webhook": object{"ids": object{"webhook_id": "hook"}, "base_url": s.URL, "format": "json", "uplink_message": object{}}}, nil)
	for i := range 3 {
		id := fmt.Sprintf("dev%d", i+1)
		p.call("POST", "/applications/"+app+"/devices", object{"end_device": object{"ids": object{"device_id": id, "dev_eui": fmt.Sprintf("70B3D5700000000%d", i), "join_eui": "0000000000000000"},
			"lorawan_version": "MAC_V1_0_3", "lorawan_phy_version": "PHY_V1_0_3_REV_A", "frequency_plan_id": "EU_863_870", "supports_join": true,
			"root_keys": object{"app_key": object{"key": "00112233445566778899AABBCCDDEEFF"}}}}, nil)
		p.call("POST", "/as/applications/"+app+"/devices/"+id+"/up/simulate", object{"uplink_message": object{"f_port": 1, "f_cnt": 1, "frm_payload": "AQ=="}}, nil)
	}
	var page messages.DeadLetterPage
	p.until("the refused event is a dead letter", func() bool {
		p.call("GET", base+"/dead-letters", nil, &page)
		return page.Total == 1
	})
	letter := page.DeadLetters[0]
	if letter.DeviceID != "dev2" || letter.StatusCode != 422 || letter.Tries != 5 || letter.EventID == "" {
		t.Errorf("%+v", letter)
	}
	var tries messages.AttemptPage
	p.call("GET", base+"/deliveries?device_id=dev2", nil, &tries)
	if tries.Total != 5 || tries.Attempts[0].Outcome != messages.AttemptDeadLetter || tries.Attempts[4].Try != 1 {
		t.Errorf("%+v", tries)
	}
	p.kill()
	p.run()
	p.call("GET", base+"/dead-letters", nil, &page)
	if page.Total != 1 || page.DeadLetters[0] != letter {
		t.Errorf("after a crash: %+v", page)
	}
	mu.Lock()
	refuse = ""
	mu.Unlock()
	var redriven messages.RedriveResult
	p.call("POST", base+"/dead-letters/redrive", object{"ids": []string{letter.ID}}, &redriven)
	if redriven != (messages.RedriveResult{Redriven: 1}) {
		t.Errorf("%+v", redriven)
	}
	p.until("no dead letter is left", func() bool {
		p.call("GET", base+"/dead-letters", nil, &page)
		return page.Total == 0
	})
	before := arrived()
	if before[len(before)-1] != letter.EventID {
		t.Errorf("arrived: %v", before)
	}
	var replayed messages.ReplayResult
	p.call("POST", base+"/replay", object{"event_id": before[0]}, &replayed)
	if replayed.Events == 0 || replayed.FirstEventID != before[0] {
		t.Errorf("%+v", replayed)
	}
	p.until("the events came again", func() bool { return uint64(len(arrived())) >= uint64(len(before))+replayed.Events })
	p.terminate()
}
