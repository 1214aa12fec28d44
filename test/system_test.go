package test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/listeners"
	"github.com/mochi-mqtt/server/v2/packets"
	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"lorikeet/cmd/lorikeet/simulator"
	"lorikeet/messages"
)

// radio is one device on air and the radio gateways that hear it, driven by hand: downlinks come as soon as a radio gateway has them. A radio gateway
// sends one thing at a time, so a test that asks for several downlinks within seconds needs several.
type radio struct {
	t testing.TB
	// replays says that the test sends what the device does not know of, so answers may miss its windows.
	replays atomic.Bool
	air     *simulator.Air
	gw      *simulator.Gateway // the first
	dev     *simulator.Device
	id      simulator.Identity
}

func newRadio(t testing.TB, p *process, id simulator.Identity, region simulator.Region, gateways int) *radio {
	t.Helper()
	r := &radio{t: t, id: id}
	r.air = simulator.NewAir(simulator.AirConfig{Rejected: func(_ *simulator.Device, err error) {
		if reason := simulator.ReasonOf(err); reason != simulator.Repeated && (reason != simulator.OutsideWindow || !r.replays.Load()) {
			t.Errorf("a downlink that no device can take: %v", err)
		}
	}})
	t.Cleanup(r.air.Close)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	all := make([]*simulator.Gateway, gateways)
	for i := range all {
		g, err := r.air.OpenGateway(context.Background(), simulator.GatewayConfig{EUI: messages.EUI64{2, 1, 1, 0xff, 0xfe, 0, 0, byte(i)}, Server: p.udp, KeepAlive: 100 * time.Millisecond})
		if err == nil {
			err = g.WaitConnected(ctx)
		}
		if err != nil {
			t.Fatal(err)
		}
		all[i] = g
	}
	r.gw = all[0]
	var err error
	r.dev, err = r.air.AddDevice(simulator.MACConfig{DevEUI: id.DevEUI, JoinEUI: id.JoinEUI, AppKey: id.AppKey, ABP: id.ABP, Region: region, SubBand: 2, DataRate: -1}, all...)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// waitForPull returns when the server has answered a PULL_DATA from now on: it knows the way to the radio gateway.
func (r *radio) waitForPull() {
	r.t.Helper()
	before, tick, limit := r.gw.Stats().PullAck, time.NewTicker(10*time.Millisecond), time.After(patience)
	defer tick.Stop()
	for r.gw.Stats().PullAck == before {
		select {
		case <-tick.C:
		case <-limit:
			r.t.Fatal("no PULL_ACK")
		}
	}
}

func (r *radio) join() {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if _, err := r.dev.Join(ctx); err != nil {
		r.t.Fatal(err)
	}
}

func (r *radio) send(u simulator.Uplink) simulator.Transmission {
	r.t.Helper()
	tx, err := r.dev.Send(u)
	if err != nil {
		r.t.Fatal(err)
	}
	return tx
}

func (r *radio) downlink() simulator.Downlink {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	down, err := r.dev.WaitDownlink(ctx)
	if err != nil {
		r.t.Fatalf("device got no downlink: %v", err)
	}
	return down
}

func startNATS(t testing.TB) (url string) {
	t.Helper()
	s, err := natsserver.NewServer(&natsserver.Options{Host: "127.0.0.1", Port: -1, NoLog: true, NoSigs: true})
	if err != nil {
		t.Fatal(err)
	}
	go s.Start()
	if !s.ReadyForConnections(patience) {
		t.Fatal("the NATS server does not start")
	}
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	return s.ClientURL()
}

// allowAll lets every client do everything.
type allowAll struct{ mochi.HookBase }

func (allowAll) ID() string { return "allow-all" }
func (allowAll) Provides(b byte) bool {
	return b == mochi.OnConnectAuthenticate || b == mochi.OnACLCheck
}
func (allowAll) OnConnectAuthenticate(*mochi.Client, packets.Packet) bool { return true }
func (allowAll) OnACLCheck(*mochi.Client, string, bool) bool              { return true }

func startMQTT(t testing.TB) (addr string) {
	t.Helper()
	s := mochi.New(&mochi.Options{Logger: slog.New(slog.DiscardHandler)})
	l := listeners.NewTCP(listeners.Config{ID: "tcp", Address: "127.0.0.1:0"})
	if err := s.AddHook(new(allowAll), nil); err != nil {
		t.Fatal(err)
	}
	if err := s.AddListener(l); err != nil {
		t.Fatal(err)
	}
	if err := s.Serve(); err != nil {
		t.Fatal(err)
	}
	// The library's Close waits for ever if a connection comes about at the same moment.
	t.Cleanup(func() {
		s.Listeners.Close(l.ID(), func(string) {
			for _, client := range s.Clients.GetAll() {
				client.Stop(io.EOF)
			}
		})
	})
	return l.Address()
}

// topics are the objects of a pub/sub integration that enable every message type under its own name.
func topics(p object) object {
	for _, name := range []string{"uplink_message", "join_accept", "downlink_ack", "downlink_nack", "downlink_sent", "downlink_failed", "downlink_queued", "downlink_push", "downlink_replace"} {
		p[name] = object{"topic": name}
	}
	return object{"pubsub": p}
}

// outsidePassword is the server's at the external MQTT broker.
const outsidePassword = "password-at-the-external-broker"

const luaFormatter = `
function decodeUplink(input)
  local a, b = string.unpack(">BB", input.payload)
  return { data = { sum = a + b, port = input.fPort } }
end
function encodeDownlink(input) return { bytes = { input.data.value, 255 - input.data.value }, fPort = 9 } end
function decodeDownlink(input) return { data = { value = input.bytes[1] } } end
`

// everything is a server with one application that has every integration, and one device.
type everything struct {
	*process
	*radio
	key     string
	mqtt    mqtt.Client
	live    *inbox
	hook    *hook
	nats    *nats.Conn
	subject *inbox
	broker  *inbox
	outside mqtt.Client
}

func startEverything(t testing.TB, app string, id simulator.Identity, region simulator.Region, gateways int, env ...string) *everything {
	t.Helper()
	e := &everything{process: start(t, env...), hook: newHook(t)}
	e.key = e.application(app)
	e.call("PUT", "/as/applications/"+app+"/link", object{"link": object{"default_formatters": object{
		"up_formatter": "FORMATTER_LUA", "up_formatter_parameter": luaFormatter, "down_formatter": "FORMATTER_LUA", "down_formatter_parameter": luaFormatter}}}, nil)
	e.call("POST", "/as/webhooks/"+app, webhookWithAll("hook", e.hook.url+"/in", e.key), nil)

	natsURL := startNATS(t)
	nc, err := nats.Connect(natsURL)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	e.nats, e.subject = nc, newInbox(t, "NATS")
	if _, err := nc.Subscribe("lora.>", func(m *nats.Msg) {
		if m.Subject != "lora.downlink_push" && m.Subject != "lora.downlink_replace" {
			e.subject.put(received{topic: m.Subject, body: m.Data})
		}
	}); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	e.call("POST", "/as/pubsub/"+app, topics(object{"ids": object{"pub_sub_id": "nats-one"}, "format": "json", "base_topic": "lora", "nats": object{"server_url": natsURL}}), nil)

	outside := startMQTT(t)
	e.outside = mqttLogin(t, outside, "any", "any", nil)
	e.broker = newInbox(t, "external MQTT")
	finish(t, e.outside.Subscribe("lora/#", 1, func(_ mqtt.Client, m mqtt.Message) {
		if !strings.HasSuffix(m.Topic(), "push") {
			e.broker.put(received{topic: m.Topic(), body: m.Payload()})
		}
	}))
	e.call("POST", "/as/pubsub/"+app, topics(object{"ids": object{"pub_sub_id": "mqtt-one"}, "format": "json", "base_topic": "lora",
		"mqtt": object{"server_url": "mqtt://" + outside, "client_id": "lorikeet", "username": "lorikeet", "password": outsidePassword, "publish_qos": "AT_LEAST_ONCE", "subscribe_qos": "AT_LEAST_ONCE"}}), nil)

	e.mqtt = mqttLogin(t, e.process.mqtt, app, e.key, nil)
	e.live = mqttInbox(t, e.mqtt, "v3/"+app+"/devices/+/#", 1)
	e.device(app, id, region)
	e.radio = newRadio(t, e.process, id, region, gateways)
	return e
}

func (e *everything) inboxes() []*inbox { return []*inbox{e.live, e.hook.inbox, e.subject, e.broker} }

func TestUplinksReachEveryIntegration(t *testing.T) {
	t.Parallel()
	for _, region := range []simulator.Region{simulator.EU868, simulator.US915} {
		for _, activation := range []simulator.Activation{simulator.OTAA, simulator.ABP} {
			t.Run(fmt.Sprint(region, activation), func(t *testing.T) {
				t.Parallel()
				testUplinks(t, region, activation)
			})
		}
	}
}

func testUplinks(t *testing.T, region simulator.Region, activation simulator.Activation) {
	id := simulator.MakeIdentity(7, 0, activation)
	e := startEverything(t, "app-one", id, region, 1)
	if activation == simulator.OTAA {
		e.join()
		for _, b := range e.inboxes() {
			b.wait("join", func(r received) bool { return r.up.JoinAccept != nil && r.up.EndDeviceIDs.DeviceID == id.DeviceID })
		}
	}
	tx := e.send(simulator.Uplink{FPort: 5, Payload: []byte{20, 3}})
	var first []byte
	for _, b := range e.inboxes() {
		got := b.uplink(id.DeviceID, tx.FCnt)
		u := got.up.UplinkMessage
		if string(u.DecodedPayload) != `{"port":5,"sum":23}` || u.FPort != 5 || !bytes.Equal(u.FRMPayload, []byte{20, 3}) || *got.up.EndDeviceIDs.DevEUI != id.DevEUI {
			t.Errorf("%s: %s", b.name, got.body)
		}
		if len(u.RxMetadata) != 1 || u.RxMetadata[0].GatewayIDs.GatewayID != "eui-"+strings.ToLower(e.gw.EUI().String()) || u.Settings.DataRate.LoRa == nil || u.ConsumedAirtime == 0 {
			t.Errorf("%s: radio part of %s", b.name, got.body)
		}
		if first == nil {
			first = got.body
		}
		if !bytes.Equal(first, got.body) {
			t.Errorf("%s has another body:\n%s\n%s", b.name, got.body, first)
		}
	}
	got := e.hook.uplink(id.DeviceID, tx.FCnt)
	push := "/api/v3/as/applications/app-one/webhooks/hook/devices/" + id.DeviceID + "/down/push"
	if got.topic != "/in/uplink_message/"+id.DeviceID || got.header.Get("X-Downlink-Apikey") != e.key || !strings.HasSuffix(got.header.Get("X-Downlink-Push"), push) ||
		!strings.HasSuffix(got.header.Get("X-Downlink-Replace"), strings.Replace(push, "push", "replace", 1)) || got.header.Get("X-Team") != "blue" || got.header.Get("Content-Type") != "application/json" {
		t.Errorf("webhook request %s, %v", got.topic, got.header)
	}
}

// pushes are all the doors for downlinks. Each gets a body {"downlinks":[…]} to its own device.
func (e *everything) pushes(app string) map[string]func(body object) {
	marshal := func(v any) []byte {
		b, err := json.Marshal(v)
		if err != nil {
			e.process.t.Fatal(err)
		}
		return b
	}
	withIDs := func(body object) []byte {
		body["end_device_ids"] = object{"device_id": e.id.DeviceID, "application_ids": object{"application_id": app}}
		return marshal(body)
	}
	return map[string]func(object){
		"MQTT": func(body object) {
			finish(e.process.t, e.mqtt.Publish("v3/"+app+"/devices/"+e.id.DeviceID+"/down/push", 1, false, marshal(body)))
		},
		"REST": func(body object) {
			e.call("POST", "/as/applications/"+app+"/devices/"+e.id.DeviceID+"/down/push", body, nil)
		},
		"webhook URL": func(body object) {
			url := e.hook.wait("any request", func(r received) bool { return r.header.Get("X-Downlink-Push") != "" }).header.Get("X-Downlink-Push")
			i := strings.Index(url, "/api/v3")
			req, err := http.NewRequest("POST", "http://"+e.rest+url[i:], bytes.NewReader(marshal(body)))
			if err != nil {
				e.process.t.Fatal(err)
			}
			req.Header.Set("Authorization", "Bearer "+e.key)
			res, err := http.DefaultClient.Do(req)
			if err != nil {
				e.process.t.Fatal(err)
			}
			defer res.Body.Close()
			if b, _ := io.ReadAll(res.Body); res.StatusCode != 200 {
				e.process.t.Fatalf("webhook push: %d %s", res.StatusCode, b)
			}
		},
		"NATS": func(body object) {
			if _, err := e.nats.Request("lora.downlink_push", withIDs(body), patience); err != nil {
				e.process.t.Fatal(err)
			}
		},
		"external MQTT": func(body object) {
			finish(e.process.t, e.outside.Publish("lora/downlink_push", 1, false, withIDs(body)))
		},
	}
}

func TestDownlinksReachTheDeviceFromEveryDoor(t *testing.T) {
	t.Parallel()
	id := simulator.MakeIdentity(8, 0, simulator.OTAA)
	e := startEverything(t, "app-two", id, simulator.EU868, 6)
	e.join()
	tx := e.send(simulator.Uplink{FPort: 1, Payload: []byte{1, 1}})
	e.hook.uplink(id.DeviceID, tx.FCnt)
	for name, push := range e.pushes("app-two") {
		correlation := "by-" + strings.ReplaceAll(name, " ", "-")
		push(object{"downlinks": []object{{"f_port": 15, "frm_payload": base64.StdEncoding.EncodeToString([]byte(name)), "priority": "NORMAL", "correlation_ids": []string{correlation}}}})
		for _, b := range e.inboxes() {
			b.down("queued", correlation)
		}
		e.send(simulator.Uplink{FPort: 1, Payload: []byte{1, 1}})
		if down := e.downlink(); string(down.Payload) != name || down.FPort != 15 || down.Confirmed {
			t.Errorf("%s: device got %+v", name, down)
		}
		for _, b := range e.inboxes() {
			b.down("sent", correlation)
		}
	}
}

func TestConfirmedDownlinks(t *testing.T) {
	t.Parallel()
	id := simulator.MakeIdentity(9, 0, simulator.ABP)
	e := startEverything(t, "app-three", id, simulator.EU868, 6)
	first := e.send(simulator.Uplink{FPort: 1, Payload: []byte{1, 1}})
	e.live.uplink(id.DeviceID, first.FCnt) // else what is pushed now may still be its answer
	e.pushes("app-three")["MQTT"](object{"downlinks": []object{
		{"decoded_payload": object{"value": 7}, "confirmed": true, "correlation_ids": []string{"first"}},
		{"f_port": 3, "frm_payload": "AAE=", "correlation_ids": []string{"second"}}}})
	e.live.down("queued", "second")

	e.send(simulator.Uplink{FPort: 1, Payload: []byte{1, 1}})
	down := e.downlink()
	if !bytes.Equal(down.Payload, []byte{7, 248}) || down.FPort != 9 || !down.Confirmed || !down.FPending {
		t.Errorf("device got %+v", down)
	}
	e.live.down("sent", "first")
	e.send(simulator.Uplink{FPort: 1, Payload: []byte{1, 1}}) // carries the ACK
	for _, b := range e.inboxes() {
		if d := b.down("ack", "first").up.DownlinkAck; uint32(d.FCnt) != down.FCnt || string(d.DecodedPayload) != `{"value":7}` {
			t.Errorf("%s: acknowledged %+v", b.name, d)
		}
	}
	if down := e.downlink(); !bytes.Equal(down.Payload, []byte{0, 1}) || down.FPort != 3 {
		t.Errorf("second: device got %+v", down)
	}
}

func TestConfirmedUplinksAreAcknowledgedAgainButDeliveredOnce(t *testing.T) {
	t.Parallel()
	id := simulator.MakeIdentity(10, 0, simulator.ABP)
	e := startEverything(t, "app-four", id, simulator.EU868, 6)
	tx := e.send(simulator.Uplink{FPort: 1, Payload: []byte{1, 2}, Confirmed: true, LinkCheck: true, DeviceTime: true})
	down := e.downlink()
	if !down.Ack || len(down.Commands) != 2 {
		t.Errorf("device got %+v", down)
	}
	e.live.uplink(id.DeviceID, tx.FCnt)
	e.replays.Store(true)
	e.dev.Replay(simulator.Transmission{PHYPayload: tx.PHYPayload, Frequency: 868500000, DataRate: tx.DataRate, Sequence: tx.Sequence, FCnt: tx.FCnt, Repetition: true})
	again := e.send(simulator.Uplink{FPort: 1, Payload: []byte{1, 2}})
	e.live.uplink(id.DeviceID, again.FCnt)
	n := 0
	for _, r := range e.live.snapshot() {
		if u := r.up.UplinkMessage; u != nil && uint32(u.FCnt) == tx.FCnt {
			n++
		}
	}
	if n != 1 {
		t.Errorf("the repeated uplink was delivered %d times", n)
	}
}

// TestSecretsAndPayloadsStayOutOfLogsAndMetrics lets a device join and send, pushes downlinks through every door, makes some mistakes, and then searches
// what an operator sees at the most talkative log level.
func TestSecretsAndPayloadsStayOutOfLogsAndMetrics(t *testing.T) {
	t.Parallel()
	const app = "app-secret"
	id := simulator.MakeIdentity(14, 0, simulator.OTAA)
	e := startEverything(t, app, id, simulator.EU868, 6, "LORIKEET_LOG_LEVEL=debug")
	e.join()
	tx := e.send(simulator.Uplink{FPort: 1, Payload: []byte("a secret payload")})
	e.hook.uplink(id.DeviceID, tx.FCnt)
	for name, push := range e.pushes(app) {
		correlation := "by-" + strings.ReplaceAll(name, " ", "-")
		push(object{"downlinks": []object{{"f_port": 1, "frm_payload": base64.StdEncoding.EncodeToString([]byte("a secret downlink")), "correlation_ids": []string{correlation}}}})
		e.live.down("queued", correlation)
		e.send(simulator.Uplink{FPort: 1, Payload: []byte("a secret payload")})
		e.downlink()
	}
	finish(t, e.mqtt.Publish("v3/"+app+"/devices/"+id.DeviceID+"/down/push", 1, false, `{"downlinks":[{"f_port":1,"frm_payload":"a secret downlink","correlation_ids":["bad"]}]}`))
	e.live.down("failed", "bad")
	failed := mqtt.NewClient(mqtt.NewClientOptions().AddBroker("tcp://" + e.process.mqtt).SetUsername(app).SetPassword("a wrong password"))
	if token := failed.Connect(); !token.WaitTimeout(patience) || token.Error() == nil {
		t.Fatal("a wrong password was taken")
	}
	res, err := http.Get("http://" + e.rest + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	metrics, err := io.ReadAll(res.Body)
	_ = res.Body.Close()
	if err != nil {
		t.Fatal(err)
	}
	e.terminate()
	seen := strings.ToLower(e.log.String() + string(metrics))
	if len(e.log.String()) < 1000 {
		t.Fatalf("log is too short to be the one meant:\n%s", e.log)
	}
	session := e.dev.Session()
	for what, secret := range map[string]string{
		"AppKey": id.AppKey.Hex(), "NwkSKey": session.NwkSKey.Hex(), "AppSKey": session.AppSKey.Hex(), "API key": e.key[strings.LastIndexByte(e.key, '.')+1:], "admin key": adminKey,
		"password of the external broker": outsidePassword, "wrong password": "a wrong password", "payload": "a secret payload", "downlink": "a secret downlink",
		"payload in base64": base64.StdEncoding.EncodeToString([]byte("a secret payload")), "payload in hex": fmt.Sprintf("%x", "a secret payload"),
		"AppKey as numbers": strings.Trim(fmt.Sprint([16]byte(id.AppKey)), "[]"), "AppSKey as numbers": strings.Trim(fmt.Sprint([16]byte(session.AppSKey)), "[]"),
	} {
		if strings.Contains(seen, strings.ToLower(secret)) {
			t.Errorf("%s is in the log or the metrics", what)
		}
	}
}

func TestMetricsAndHealth(t *testing.T) {
	t.Parallel()
	p := start(t)
	for path, want := range map[string]string{"/healthz": "", "/readyz": "", "/metrics": "lorikeet_uplinks_total"} {
		res, err := http.Get("http://" + p.rest + path)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(res.Body)
		_ = res.Body.Close()
		if err != nil || res.StatusCode != 200 || !strings.Contains(string(b), want) && want != "lorikeet_uplinks_total" {
			t.Errorf("%s: %d %v", path, res.StatusCode, err)
		}
	}
	p.terminate()
}
