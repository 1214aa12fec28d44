package simulator

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	mqttserver "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/listeners"
	"github.com/mochi-mqtt/server/v2/packets"

	"lorikeet/messages"
)

// fakeStack is the fake network server with a REST API and an MQTT broker in front.
type fakeStack struct {
	*fakeServer
	rest, mqtt string

	mu    sync.Mutex
	calls map[string]int // REST requests by method and path, device ids left out
	links []json.RawMessage
	hook  string // base URL of the webhook
	// deliver may change what the webhook gets: it calls post once for each delivery it wants. nil: one for each event.
	deliver func(device, kind string, post func(id string))
}

// allowAll lets everyone do everything.
type allowAll struct{ mqttserver.HookBase }

func (allowAll) ID() string { return "allow-all" }
func (allowAll) Provides(b byte) bool {
	return b == mqttserver.OnConnectAuthenticate || b == mqttserver.OnACLCheck
}
func (allowAll) OnConnectAuthenticate(*mqttserver.Client, packets.Packet) bool { return true }
func (allowAll) OnACLCheck(*mqttserver.Client, string, bool) bool              { return true }

func startStack(t *testing.T, change func(*fakeServer)) *fakeStack {
	t.Helper()
	broker := mqttserver.New(&mqttserver.Options{InlineClient: true, Logger: slog.New(slog.DiscardHandler)})
	if err := broker.AddHook(new(allowAll), nil); err != nil {
		t.Fatal(err)
	}
	l := listeners.NewTCP(listeners.Config{ID: "test", Address: "127.0.0.1:0"})
	if err := broker.AddListener(l); err != nil {
		t.Fatal(err)
	}
	if err := broker.Serve(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = broker.Close() })
	s := &fakeStack{mqtt: "tcp://" + l.Address(), calls: map[string]int{}}
	s.fakeServer = startFake(t, func(f *fakeServer) {
		f.event = func(device, kind string, body map[string]any) {
			b, err := json.Marshal(body)
			if err == nil {
				err = broker.Publish("v3/simulation/devices/"+device+"/"+kind, b, false, 1)
			}
			if err != nil {
				t.Error(err)
			}
			s.webhook(device, kind, body, b)
		}
		if change != nil {
			change(f)
		}
	})
	err := broker.Subscribe("v3/simulation/devices/+/down/push", 1, func(_ *mqttserver.Client, _ packets.Subscription, pk packets.Packet) {
		var m struct {
			Downlinks []struct {
				Payload []byte `json:"frm_payload"`
				FPort   int    `json:"f_port"`
			} `json:"downlinks"`
		}
		if err := json.Unmarshal(pk.Payload, &m); err != nil || len(m.Downlinks) != 1 || m.Downlinks[0].FPort != 1 {
			t.Errorf("push %s: %v", pk.Payload, err)
			return
		}
		device := strings.Split(pk.TopicName, "/")[3]
		s.fakeServer.mu.Lock()
		defer s.fakeServer.mu.Unlock()
		s.queue[device] = append(s.queue[device], m.Downlinks[0].Payload)
	})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(http.HandlerFunc(s.serveHTTP))
	t.Cleanup(server.Close)
	s.rest = server.URL
	return s
}

func (s *fakeStack) serveHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	s.mu.Lock()
	defer s.mu.Unlock()
	call := r.Method + " " + r.URL.Path
	s.calls[call]++
	switch {
	case r.Header.Get("Authorization") != "Bearer admin":
		w.WriteHeader(http.StatusUnauthorized)
	case call == "POST /api/v3/users/admin/applications" && s.calls[call] > 1:
		w.WriteHeader(http.StatusConflict)
	case call == "PUT /api/v3/as/applications/simulation/link":
		s.links = append(s.links, body)
	case call == "POST /api/v3/as/webhooks/simulation":
		var m struct {
			Webhook struct {
				BaseURL string `json:"base_url"`
			} `json:"webhook"`
		}
		if err := json.Unmarshal(body, &m); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
		}
		s.hook = m.Webhook.BaseURL
	case call == "POST /api/v3/applications/simulation/api-keys":
		fmt.Fprint(w, `{"id":"KEYID","key":"NNSXS.KEYID.SECRET"}`)
	case call == "POST /api/v3/applications/simulation/devices":
		s.register(w, body)
	}
}

// webhook delivers an event to the webhook if there is one.
func (s *fakeStack) webhook(device, kind string, body map[string]any, b []byte) {
	s.mu.Lock()
	base, deliver := s.hook, s.deliver
	s.mu.Unlock()
	if base == "" {
		return
	}
	name := map[string]string{"up": "uplink_message", "join": "join_accept"}[kind]
	post := func(id string) {
		req, err := http.NewRequest("POST", base+"/"+name+"/"+device, bytes.NewReader(b))
		if err != nil {
			s.t.Error(err)
			return
		}
		req.Header.Set("X-Event-Id", id)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			s.t.Error(err)
			return
		}
		_ = resp.Body.Close()
	}
	if deliver != nil {
		deliver(device, kind, post)
		return
	}
	id := device + kind
	if u, ok := body["uplink_message"].(map[string]any); ok {
		id += fmt.Sprint(u["f_cnt"])
	}
	post(id)
}

func (s *fakeStack) register(w http.ResponseWriter, body []byte) {
	type key struct {
		Key string `json:"key"`
	}
	var m struct {
		EndDevice struct {
			IDs struct {
				DeviceID string         `json:"device_id"`
				DevEUI   messages.EUI64 `json:"dev_eui"`
				JoinEUI  messages.EUI64 `json:"join_eui"`
			} `json:"ids"`
			SupportsJoin bool `json:"supports_join"`
			RootKeys     struct {
				AppKey key `json:"app_key"`
			} `json:"root_keys"`
			Session *struct {
				DevAddr messages.DevAddr `json:"dev_addr"`
				Keys    struct {
					FNwkSIntKey key `json:"f_nwk_s_int_key"`
					AppSKey     key `json:"app_s_key"`
				} `json:"keys"`
			} `json:"session"`
		} `json:"end_device"`
	}
	if err := json.Unmarshal(body, &m); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	d := m.EndDevice
	id := Identity{DeviceID: d.IDs.DeviceID, DevEUI: d.IDs.DevEUI, JoinEUI: d.IDs.JoinEUI}
	s.fakeServer.mu.Lock()
	_, exists := s.devices[id.DevEUI]
	s.fakeServer.mu.Unlock()
	if exists {
		w.WriteHeader(http.StatusConflict)
		return
	}
	var err error
	if d.SupportsJoin {
		id.AppKey, err = messages.ParseKey(d.RootKeys.AppKey.Key)
	} else {
		id.ABP = &Session{DevAddr: d.Session.DevAddr}
		if id.ABP.NwkSKey, err = messages.ParseKey(d.Session.Keys.FNwkSIntKey.Key); err == nil {
			id.ABP.AppSKey, err = messages.ParseKey(d.Session.Keys.AppSKey.Key)
		}
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	s.add(id)
}

func (s *fakeStack) config() Config {
	cfg := DefaultConfig()
	cfg.UDP, cfg.HTTP, cfg.MQTT, cfg.AdminKey = s.addr(), s.rest, s.mqtt, "admin"
	cfg.Duration, cfg.Rate, cfg.JoinRate, cfg.RealTime, cfg.Lead = 0, 500, 1000, false, 0
	return cfg
}

func runFor(t *testing.T, cfg Config, out io.Writer) Report {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	r, err := Run(ctx, cfg, out)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestRun(t *testing.T) {
	t.Parallel()
	for _, activation := range []Activation{OTAA, ABP} {
		t.Run(string(activation), func(t *testing.T) {
			t.Parallel()
			s := startStack(t, nil)
			cfg := s.config()
			cfg.Activation, cfg.Devices, cfg.Gateways, cfg.Copies, cfg.Count, cfg.Batch = activation, 20, 4, 2, 200, 5
			cfg.Confirmed, cfg.DownlinkEvery = 0, 10
			var shown atomic.Int64
			cfg.Event = func(topic string, _ []byte) {
				if strings.HasSuffix(topic, "/up") {
					shown.Add(1)
				}
			}
			cfg.Formatter = messages.Formatter{Kind: messages.FormatterLua, Parameter: "return {}"}
			cfg.StateFile = filepath.Join(t.TempDir(), "state.json")
			r := runFor(t, cfg, io.Discard)
			if p := r.Problems(); len(p) > 0 {
				t.Errorf("problems: %v (%s)", p, r.FirstFault)
			}
			if r.Uplinks != 200 || r.Events != 200 || r.Active != 20 || r.Pushed != 20 || r.FramesAcked != r.Frames || r.Frames < 400 || r.LatencyP50 <= 0 || r.LatencyMax < r.LatencyP50 {
				t.Errorf("report %+v", r)
			}
			if activation == OTAA && (r.JoinAccepts != 20 || r.JoinEvents != 20) {
				t.Errorf("joins %+v", r)
			}
			if r.PushedReceived == 0 || r.Downlinks < r.PushedReceived {
				t.Errorf("downlinks %+v", r)
			}
			if n := shown.Load(); n != 200 {
				t.Errorf("%d uplink events shown, want 200", n)
			}
			// A second run finds its devices, and counters that went on: the fake server knows no FCntUp reset.
			r = runFor(t, cfg, io.Discard)
			if p := r.Problems(); len(p) > 0 || r.Events != 200 {
				t.Errorf("second run: %v, %+v", p, r)
			}
			states, err := readStates(cfg.StateFile)
			if err != nil {
				t.Fatal(err)
			}
			want := State{DevNonce: 2, FCntUp: 10, FCntDown: 1}
			if activation == ABP {
				want = State{FCntUp: 20, FCntDown: 2}
			}
			got := states[MakeIdentity(cfg.Seed, 3, activation).DeviceID]
			want.FCntDown = got.FCntDown // depends on when a push comes
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("state (-want +got):\n%s", diff)
			}
			s.mu.Lock()
			defer s.mu.Unlock()
			if s.calls["DELETE /api/v3/applications/simulation/api-keys/KEYID"] != 2 || len(s.links) != 2 || !bytes.Contains(s.links[0], []byte(`"up_formatter":"FORMATTER_LUA"`)) {
				t.Errorf("calls %v, links %s", s.calls, s.links)
			}
		})
	}
}

func TestRunConfirmedWithFaults(t *testing.T) {
	t.Parallel()
	s := startStack(t, func(f *fakeServer) { f.retry = true })
	cfg := s.config()
	cfg.Activation, cfg.Devices, cfg.Count, cfg.Confirmed = ABP, 20, 20, 0.5
	cfg.Fault, cfg.FaultShare, cfg.FaultRX1 = messages.TxTooLate, 1, true
	r := runFor(t, cfg, io.Discard)
	if r.Confirmed != 10 || r.Acks != 10 || r.FaultsInjected != 10 || r.Rejected[UnsentFrame] != 10 || len(r.Problems()) > 0 {
		t.Errorf("report %+v, problems %v", r, r.Problems())
	}
}

// TestRunReportsFaults: a server that reuses FCntDown and forgets and repeats events.
func TestRunReportsFaults(t *testing.T) {
	t.Parallel()
	var publish func(device, kind string, body map[string]any)
	n := 0
	s := startStack(t, func(f *fakeServer) {
		f.echo, f.lie = true, func(uint32) uint32 { return 0 }
		publish = f.event
		f.event = func(device, kind string, body map[string]any) {
			if n++; n == 1 {
				return // lost
			}
			publish(device, kind, body)
			if n == 2 {
				publish(device, kind, body)
			}
		}
	})
	cfg := s.config()
	cfg.Activation, cfg.Devices, cfg.Count, cfg.Payload, cfg.Drain = ABP, 1, 10, "counter", 15*time.Second
	r := runFor(t, cfg, io.Discard)
	if r.EventsMissing != 1 || r.EventsDuplicate != 1 || r.FCntDownReused != 9 || r.Downlinks != 1 || len(r.Problems()) != 3 || r.FirstFault == "" {
		t.Errorf("report %+v, problems %v", r, r.Problems())
	}
	var table bytes.Buffer
	if err := r.WriteTable(&table); err != nil || !strings.Contains(table.String(), "missing 1, duplicate 1") {
		t.Errorf("%v:\n%s", err, table.String())
	}
	if b, err := json.Marshal(r); err != nil || !bytes.Contains(b, []byte(`"f_cnt_down_reused":9`)) {
		t.Errorf("%v: %s", err, b)
	}
}

func TestRunNobodyJoins(t *testing.T) {
	t.Parallel()
	s := startFake(t, func(f *fakeServer) { f.deaf = true })
	cfg := DefaultConfig()
	cfg.UDP, cfg.HTTP, cfg.MQTT, cfg.Devices, cfg.JoinTimeout, cfg.JoinAttempts = s.addr(), "", "", 1, 20*time.Millisecond, 2
	r, err := Run(context.Background(), cfg, io.Discard)
	if err == nil || r.JoinRequests != 2 {
		t.Errorf("got %v, %+v", err, r)
	}
}

func TestRunRefusals(t *testing.T) {
	t.Parallel()
	s := startStack(t, nil)
	cfg := s.config()
	cfg.AdminKey = "wrong"
	cfg.Count = 1
	if _, err := Run(context.Background(), cfg, io.Discard); err == nil || !strings.Contains(err.Error(), "HTTP 401") {
		t.Errorf("wrong key: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	cfg.AdminKey = "admin"
	if _, err := Run(ctx, cfg, io.Discard); err == nil {
		t.Error("cancelled: no error")
	}
}

func TestValidate(t *testing.T) {
	t.Parallel()
	good := DefaultConfig()
	good.AdminKey = "k"
	if err := good.Validate(); err != nil {
		t.Fatalf("default: %v", err)
	}
	for name, change := range map[string]func(*Config){
		"devices":       func(c *Config) { c.Devices = 0 },
		"copies":        func(c *Config) { c.Copies = 2 },
		"rate":          func(c *Config) { c.Rate = 0 },
		"duration":      func(c *Config) { c.Duration = 0 },
		"batch":         func(c *Config) { c.Batch = 0 },
		"activation":    func(c *Config) { c.Activation = "x" },
		"region":        func(c *Config) { c.Region = "EU433" },
		"sub-band":      func(c *Config) { c.Region, c.SubBand = US915, 0 },
		"FPort":         func(c *Config) { c.FPort = 224 },
		"confirmed":     func(c *Config) { c.Confirmed = 1.1 },
		"payload":       func(c *Config) { c.Payload = "random:0" },
		"payload size":  func(c *Config) { c.Payload, c.DataRate = "random:52", 0 },
		"data rate":     func(c *Config) { c.DataRate = 7 },
		"admin key":     func(c *Config) { c.AdminKey = "" },
		"application":   func(c *Config) { c.ApplicationID = "X" },
		"downlinks":     func(c *Config) { c.MQTT, c.DownlinkEvery = "", 1 },
		"fault":         func(c *Config) { c.FaultShare = 1 },
		"join attempts": func(c *Config) { c.JoinAttempts = 0 },
		"QoS":           func(c *Config) { c.QoS = 3 },
		"webhook":       func(c *Config) { c.WebhookListen = "0.0.0.0:0" },
		"webhook, REST": func(c *Config) { c.WebhookListen, c.HTTP, c.MQTT = "127.0.0.1:0", "", "" },
		"no judge":      func(c *Config) { c.Marks = make(chan Mark) },
	} {
		c := good
		change(&c)
		if c.Validate() == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestPayloads(t *testing.T) {
	t.Parallel()
	for spec, want := range map[string]string{"hex:0aFF": "0aff", "counter": "00000102", "cayennelpp": "016700c6"} {
		f, size, err := parsePayload(spec)
		if err != nil {
			t.Fatal(err)
		}
		b := make([]byte, size)
		if f(b, 0x102); fmt.Sprintf("%x", b) != want {
			t.Errorf("%s: %x, want %s", spec, b, want)
		}
	}
	f, size, err := parsePayload("random:16")
	if err != nil || size != 16 {
		t.Fatal(size, err)
	}
	a, b, c := make([]byte, 16), make([]byte, 16), make([]byte, 16)
	f(a, 1)
	f(b, 1)
	f(c, 2)
	if !bytes.Equal(a, b) || bytes.Equal(a, c) {
		t.Errorf("random: %x %x %x", a, b, c)
	}
}

func TestIdentitiesDiffer(t *testing.T) {
	t.Parallel()
	seen := map[any]bool{}
	for i := range 1000 {
		for _, activation := range []Activation{OTAA, ABP} {
			id := MakeIdentity(5, i, activation)
			if err := messages.ValidateID(id.DeviceID); err != nil {
				t.Fatal(err)
			}
			if activation == ABP {
				seen[id.ABP.DevAddr] = true
				continue
			}
			seen[id.DevEUI], seen[id.AppKey.Hex()] = true, true
		}
	}
	if len(seen) != 3000 {
		t.Errorf("%d different values, want 3000", len(seen))
	}
	if cmp.Diff(MakeIdentity(5, 1, ABP), MakeIdentity(5, 1, ABP)) != "" {
		t.Error("a seed does not give the same device twice")
	}
}

func TestHistogram(t *testing.T) {
	t.Parallel()
	var h histogram
	for i := 1; i <= 1000; i++ {
		h.add(time.Duration(i) * time.Millisecond)
	}
	for q, want := range map[float64]time.Duration{0.5: 500 * time.Millisecond, 0.99: 990 * time.Millisecond, 1: time.Second} {
		if got := h.quantile(q); got < want*97/100 || got > want*104/100 {
			t.Errorf("quantile %g: %s, want about %s", q, got, want)
		}
	}
	for _, d := range []time.Duration{-1, 0, time.Microsecond, 63 * time.Microsecond, 64 * time.Microsecond, 1<<63 - 1} {
		h.add(d) // must stay in range
	}
	if h.max != 1<<63-1 {
		t.Errorf("max %s", h.max)
	}
}

func FuzzTxpk(f *testing.F) {
	f.Add([]byte(`{"txpk":{"tmst":1,"freq":868.1,"modu":"LORA","datr":"SF7BW125","ipol":true,"size":1,"data":"AA=="}}`))
	f.Add([]byte(`{"txpk":{"imme":true,"modu":"FSK","datr":50000,"ipol":true}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if p, err := parseTxpk(b); err == nil && !p.Immediate && p.PHYPayload == nil {
			t.Error("a packet without data")
		}
	})
}

func FuzzEvent(f *testing.F) {
	f.Add("v3/a/devices/d/up", []byte(`{"end_device_ids":{"dev_addr":"01020304"},"uplink_message":{"f_cnt":1}}`))
	f.Add("v3/a/devices/d/down/queued", []byte(`{`))
	f.Fuzz(func(t *testing.T, topic string, b []byte) {
		tr := newTracker(time.Now())
		tr.leave("d", messages.DevAddr{1, 2, 3, 4}, 0)
		tr.arrive(topic, b)
		tr.arrive(topic, b)
		if tr.seen > 1 {
			t.Errorf("one uplink seen %d times", tr.seen)
		}
	})
}

// FuzzScanUplink hides the two fields between texts that try to mislead.
func FuzzScanUplink(f *testing.F) {
	f.Add(uint32(12), uint32(0x01020304), "\"f_cnt\":3", "uplink_message")
	f.Add(uint32(0), uint32(0), "{[\\", "\\\"")
	f.Fuzz(func(t *testing.T, fCnt, a uint32, key, value string) {
		var addr messages.DevAddr
		binary.BigEndian.PutUint32(addr[:], a)
		noise := map[string]any{key + "!": value, "list": []any{value, map[string]any{"f_cnt": 7, "dev_addr": "FFFFFFFF"}}}
		uplink := map[string]any{"last_battery_percentage": map[string]any{"f_cnt": 99, value: key}, "z" + key: value, "a": noise}
		if fCnt != 0 {
			uplink["f_cnt"] = fCnt
		}
		b, err := json.MarshalIndent(map[string]any{"a" + key: noise, "end_device_ids": map[string]any{"a": noise, "dev_addr": addr, "x": value}, "f_cnt": 5,
			"uplink_message": uplink, "z" + key: value}, "", " ")
		if err != nil {
			t.Fatal(err)
		}
		gotAddr, gotCnt, ok := scanUplink(b)
		if !ok || gotAddr != addr || gotCnt != fCnt {
			t.Errorf("%s: got %s %d %v", b, gotAddr, gotCnt, ok)
		}
		for i := range b {
			scanUplink(b[:i]) // must not panic
		}
	})
}
