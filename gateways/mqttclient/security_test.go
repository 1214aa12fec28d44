package mqttclient

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/gorilla/websocket"
	broker "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/listeners"
	"google.golang.org/protobuf/proto"

	"lorikeet/gateways/gatewaystest"
	"lorikeet/messages"
	v3 "lorikeet/messages/v3"
	"lorikeet/messages/v3/pb"
)

// refused waits until the server was tried, and gives the reason for which it could not be used.
func refused(t *testing.T, p v3.PubSub) string {
	t.Helper()
	c := open(t, Config{PubSub: p})
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		if s := c.Connection(); s.LastError != "" {
			if s.State != messages.ConnectionConnecting || s.LastErrorAt == nil {
				t.Errorf("state %+v", s)
			}
			return s.LastError
		}
	}
	t.Fatal("the server was not tried")
	return ""
}

func startTLSBroker(t *testing.T, w *watcher, config *tls.Config) (address string) {
	t.Helper()
	l := listeners.NewTCP(listeners.Config{ID: "tls", Address: "127.0.0.1:0", TLSConfig: config})
	startBroker(t, "127.0.0.1:0", w, l)
	return l.Address()
}

func TestTLSWithAClientCertificate(t *testing.T) {
	pki := gatewaystest.NewPKI(t)
	w := newWatcher()
	p := config(startTLSBroker(t, w, pki.Server), "AT_LEAST_ONCE")
	p.MQTT.UseTLS = true
	if got := refused(t, p); !strings.Contains(got, "unknown authority") || strings.Contains(got, "hunter2") {
		t.Errorf("without the CA: %s", got)
	}
	p.MQTT.TLSCA = pki.CA
	if got := refused(t, p); got == "" {
		t.Error("let in without a certificate")
	}
	p.MQTT.TLSClientCert, p.MQTT.TLSClientKey = pki.ClientCert, pki.ClientKey
	deliver(t, open(t, Config{PubSub: p}), event(1))
	if pk := receive(t, w.published); string(pk.Payload) != `{"n":1}` {
		t.Errorf("%s", pk.Payload)
	}
}

// TestWebSocketWithHeaders goes through a web server that lets in who has the header.
func TestWebSocketWithHeaders(t *testing.T) {
	w := newWatcher()
	s, _, _ := startBroker(t, "127.0.0.1:0", w)
	upgrader := websocket.Upgrader{Subprotocols: []string{"mqtt"}}
	front := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Token") != "hunter3" || r.URL.Path != "/mqtt" {
			http.Error(rw, "no", http.StatusForbidden)
			return
		}
		conn, err := upgrader.Upgrade(rw, r, nil)
		if err != nil {
			return
		}
		_ = s.EstablishConnection("ws", &wsConn{Conn: conn.NetConn(), ws: conn})
	}))
	defer front.Close()
	p := config("", "AT_LEAST_ONCE")
	p.MQTT.ServerURL = strings.Replace(front.URL, "http", "ws", 1) + "/mqtt"
	if got := refused(t, p); !strings.Contains(got, "403") && !strings.Contains(got, "bad handshake") || strings.Contains(got, "hunter") {
		t.Errorf("without the header: %s", got)
	}
	p.MQTT.Headers = map[string]string{"X-Token": "hunter3"}
	deliver(t, open(t, Config{PubSub: p}), event(1))
	if pk := receive(t, w.published); string(pk.Payload) != `{"n":1}` {
		t.Errorf("%s", pk.Payload)
	}
}

// wsConn makes a stream of the messages of a WebSocket.
type wsConn struct {
	net.Conn
	ws     *websocket.Conn
	unread io.Reader
}

func (c *wsConn) Read(b []byte) (int, error) {
	for {
		if c.unread == nil {
			_, r, err := c.ws.NextReader()
			if err != nil {
				return 0, err
			}
			c.unread = r
		}
		n, err := c.unread.Read(b)
		if err == io.EOF {
			c.unread = nil
			if n == 0 {
				continue
			}
			err = nil
		}
		return n, err
	}
}

func (c *wsConn) Write(b []byte) (int, error) {
	return len(b), c.ws.WriteMessage(websocket.BinaryMessage, b)
}

// TestOrderOfEachDeviceOverConnectionsThatBreak delivers as the integration actor does: one event of a device after the other, again until it worked.
func TestOrderOfEachDeviceOverConnectionsThatBreak(t *testing.T) {
	for _, qos := range []v3.QoS{v3.QoSAtLeastOnce, v3.QoSExactlyOnce} {
		w := newWatcher()
		_, at, stop := startBroker(t, "127.0.0.1:0", w)
		c := open(t, Config{PubSub: config(gatewaystest.BreakingProxy(t, at, 1500), qos)})
		const devices, events = 4, 40
		var all sync.WaitGroup
		for d := range uint64(devices) {
			all.Go(func() {
				for n := range uint64(events) {
					deliver(t, c, event(d*1000+n))
				}
			})
		}
		next := map[int]int{}
		for done := 0; done < devices; {
			pk := receive(t, w.published)
			var n int
			if _, err := fmt.Sscanf(string(pk.Payload), `{"n":%d}`, &n); err != nil {
				t.Fatal(err)
			}
			switch device, n := n/1000, n%1000; {
			case n > next[device]:
				t.Fatalf("%s: device %d: event %d after %d", qos, device, n, next[device]-1)
			case n == next[device]: // others are repeats
				if next[device]++; next[device] == events {
					done++
				}
			}
		}
		all.Wait()
		if got := c.Connection(); got.Connects < 2 || got.LastError == "" {
			t.Errorf("%s: state %+v", qos, got)
		}
		_ = c.Close()
		stop()
	}
}

func TestConnectionState(t *testing.T) {
	_, at, stop := startBroker(t, "127.0.0.1:0", newWatcher())
	c := open(t, Config{PubSub: config(at, "AT_LEAST_ONCE")})
	deliver(t, c, event(1))
	if got := c.Connection(); got.State != messages.ConnectionConnected || got.Connects != 1 || got.LastError != "" || got.Since.IsZero() {
		t.Errorf("state %+v", got)
	}
	stop()
	for deadline := time.Now().Add(time.Minute); c.Connection().State != messages.ConnectionConnecting; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the loss is not noticed")
		}
	}
}

func TestProtobufBothWays(t *testing.T) {
	w := newWatcher()
	s, at, _ := startBroker(t, "127.0.0.1:0", w)
	d := &downlinks{calls: make(chan string, 10)}
	p := config(at, "EXACTLY_ONCE")
	p.Format = "protobuf"
	c := open(t, Config{PubSub: p, Downlinks: d})
	e := event(1)
	e.JSON = []byte(`{"end_device_ids":{"device_id":"dev1"},"uplink_message":{"f_port":2,"frm_payload":"AWc="}}`)
	deliver(t, c, e)
	var got pb.ApplicationUp
	if err := proto.Unmarshal(receive(t, w.published).Payload, &got); err != nil || got.GetUplinkMessage().GetFPort() != 2 {
		t.Errorf("%v %v", &got, err)
	}
	request := &pb.DownlinkQueueRequest{EndDeviceIds: &pb.EndDeviceIdentifiers{DeviceId: "dev1"}, Downlinks: []*pb.ApplicationDownlink{{FPort: 1, FrmPayload: []byte{1}}}}
	publish(t, s, "lora/app1/down/push", encode(t, request))
	if got := receive(t, d.calls); got != "push app1.dev1 1" {
		t.Error(got)
	}
	receive(t, w.acked)
	publish(t, s, "lora/app1/down/push", []byte(`{"downlinks":[]}`)) // of no use, and never will be
	receive(t, w.acked)
}

func TestTopicsThatNameTheDevice(t *testing.T) {
	w := newWatcher()
	s, at, _ := startBroker(t, "127.0.0.1:0", w)
	d := &downlinks{calls: make(chan string, 10)}
	p := config(at, "AT_LEAST_ONCE")
	p.BaseTopic = "v3/{application_id}/devices/{device_id}"
	p.UplinkMessage, p.JoinAccept = &v3.MessageTopic{Topic: "up/{dev_eui}"}, nil
	p.DownlinkPush, p.DownlinkReplace = &v3.MessageTopic{Topic: "down/push"}, &v3.MessageTopic{Topic: "down/replace"}
	c := open(t, Config{PubSub: p, Downlinks: d})
	e := event(1)
	e.DevEUI = messages.EUI64{0, 4, 0xa3, 0xb, 0, 0x1c, 5, 0x30}
	deliver(t, c, e)
	if got := receive(t, w.published).TopicName; got != "v3/app1/devices/dev1/up/0004A30B001C0530" {
		t.Error(got)
	}
	const item = `"downlinks":[{"f_port":1,"frm_payload":"AQ=="}]}`
	for _, r := range []struct{ topic, body, call string }{
		{"v3/app1/devices/dev7/down/push", "{" + item, "push app1.dev7 1"},
		{"v3/app1/devices/dev7/down/replace", "{" + item, "replace app1.dev7 1"},
		{"v3/app1/devices/dev7/down/push", `{"downlinks":7}`, "fail app1.dev7 1"},
		{"v3/app1/devices/dev7/down/push", `{"end_device_ids":{"device_id":"dev8"},` + item, "fail app1.dev7 1"},
	} {
		publish(t, s, r.topic, []byte(r.body))
		if diff := cmp.Diff(r.call, receive(t, d.calls)); diff != "" {
			t.Errorf("%s %s: %s", r.topic, r.body, diff)
		}
		receive(t, w.acked)
	}
	publish(t, s, "v3/app1/devices/NO ID/down/push", []byte("{"+item))
	receive(t, w.acked)
	publish(t, s, "v3/app2/devices/dev7/down/push", []byte("{"+item)) // not ours
	publish(t, s, "v3/app1/devices/dev9/down/push", []byte("{"+item))
	if got := receive(t, d.calls); got != "push app1.dev9 1" {
		t.Error(got)
	}
}

func publish(t *testing.T, s *broker.Server, topic string, body []byte) {
	t.Helper()
	if err := s.Publish(topic, body, false, 1); err != nil {
		t.Fatal(err)
	}
}

func encode(t *testing.T, m proto.Message) []byte {
	t.Helper()
	b, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
