package broker

import (
	"io"
	"log/slog"
	"net"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"lorikeet/messages"
)

// FuzzConnection plays a whole connection. The first byte chooses what happens before the rest is sent: nothing, or a login of MQTT 3.1.1 or 5. Whatever is
// sent, the server goes on, only allowed commands are carried out, and nothing is left behind.
func FuzzConnection(f *testing.F) {
	subscribe := packets.Packet{ProtocolVersion: 5, FixedHeader: packets.FixedHeader{Type: packets.Subscribe, Qos: 1}, PacketID: 7, Filters: packets.Subscriptions{{Filter: "v3/+/devices/+/up", Qos: 2}}}
	publish := publishPacket("v3/app1/devices/dev1/down/push", push, 2, 1)
	publish.ProtocolVersion = 5
	f.Add([]byte{2, 0x82, 6, 0, 1, 0, 0, 1, '#'})
	f.Add(append([]byte{0}, encode(f, connectPacket(4, "c", "app1@ttn", "all"))...))
	f.Add(append([]byte{0}, encode(f, connectPacket(5, "c", "app1", "all", keepSession(10), receiveMaximum(1)))...))
	f.Add(append([]byte{2}, encode(f, subscribe)...))
	f.Add(append(append([]byte{2}, encode(f, publish)...), encode(f, confirmation(packets.Pubrel, 1))...))
	for _, kind := range []byte{packets.Puback, packets.Pubrec, packets.Pubcomp, packets.Pingreq, packets.Disconnect} {
		f.Add(append(append([]byte{1}, encode(f, confirmation(kind, 1))...), 0xC0, 0))
	}
	w := newWorld()
	cfg := w.config()
	cfg.Log = slog.New(slog.DiscardHandler)
	cfg.setDefaults()
	s, err := newServer(cfg)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = s.Close(f.Context()) })
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) == 0 {
			return
		}
		client, server := net.Pipe()
		ended := make(chan struct{})
		g := newGuest(server)
		if refused := s.doorkeeper.enter(g); refused != "" {
			t.Fatal("refused:", refused)
		}
		go func() { s.serve(server, g); close(ended) }()
		_ = client.SetDeadline(time.Now().Add(patience))
		go func() { _, _ = io.Copy(io.Discard, client) }()
		if data[0]%3 > 0 {
			_, _ = client.Write(encode(t, connectPacket(3+data[0]%3, "c", "app1", "all", keepSession(0))))
		}
		_, _ = client.Write(data[1:])
		s.Publish(event1(1))
		_ = client.Close()
		select {
		case <-ended:
		case <-time.After(patience):
			t.Fatal("the connection does not end")
		}
		for len(w.commands) > 0 {
			if c := <-w.commands; c.device.ApplicationID != "app1" || messages.ValidateID(c.device.DeviceID) != nil {
				t.Fatalf("carried out: %+v", c)
			}
		}
	})
}

// FuzzFilter checks that a granted filter shows nothing of another application.
func FuzzFilter(f *testing.F) {
	for _, filter := range []string{"#", "v3/#", "v3/+/devices/+/up", "$share/g/v3/app1/#", "+/#", "$SYS/#", "v3/app1/devices/dev1/up/#"} {
		f.Add(filter)
	}
	f.Fuzz(func(t *testing.T, filter string) {
		share, levels, ok := rewriteFilter("app1", filter)
		if !ok {
			return
		}
		if share != "" && filter[:7] != "$share/" {
			t.Fatalf("%q: share group %q", filter, share)
		}
		for i, l := range levels {
			if l == "#" && i < len(levels)-1 {
				t.Fatalf("%q is no filter", filter)
			}
		}
		// The index by device must find what the match finds.
		for _, topic := range [][]string{{"devices", "dev1", "up"}, {"devices", "dev2", "down", "sent"}, {"x"}} {
			if device := deviceOf(levels); matches(levels, topic) && device != "" && (len(topic) < 2 || topic[1] != device) {
				t.Fatalf("%q is kept for device %q and matches %v", filter, device, topic)
			}
		}
	})
}

// FuzzFrame checks the encoder against the library's decoder.
func FuzzFrame(f *testing.F) {
	f.Add("v3/app1/devices/", "dev1", "/up", []byte("{}"), byte(1), true, true, uint16(1), uint32(1000))
	f.Fuzz(func(t *testing.T, prefix, device, suffix string, payload []byte, qos byte, dup, v5 bool, id uint16, sub uint32) {
		frame := publishFrame{prefix: prefix, device: device, suffix: suffix, payload: payload, qos: qos % 3, v5: v5, id: max(1, id)}
		frame.dup = dup && frame.qos > 0
		if sub %= 1 << 28; sub > 0 {
			frame.subscriptions = []int{int(sub)}
		}
		if len(prefix)+len(device)+len(suffix) > 60000 || len(payload) > 1<<20 {
			return
		}
		out := frame.append(nil)
		if len(out) != frame.size() {
			t.Fatalf("%d bytes, size says %d", len(out), frame.size())
		}
		client, server := net.Pipe()
		defer func() { _ = client.Close(); _ = server.Close() }()
		go func() { _, _ = server.Write(out) }()
		c := newRaw(t, client)
		c.version = 4
		if v5 {
			c.version = 5
		}
		pk, err := c.read()
		if err != nil {
			if !packetsText(prefix + device + suffix) {
				return
			}
			t.Fatal(err)
		}
		if pk.TopicName != prefix+device+suffix || string(pk.Payload) != string(payload) || pk.FixedHeader.Qos != frame.qos || pk.FixedHeader.Dup != frame.dup {
			t.Fatalf("%+v became %+v", frame, pk)
		}
		if frame.qos > 0 && pk.PacketID != frame.id {
			t.Fatalf("id %d became %d", frame.id, pk.PacketID)
		}
	})
}

// packetsText says whether the library takes the text as UTF-8 of MQTT.
func packetsText(s string) bool {
	for _, r := range s {
		if r == 0 || r == '\uFFFD' {
			return false
		}
	}
	return true
}
