package broker

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"testing"
	"testing/iotest"

	"github.com/mochi-mqtt/server/v2/packets"
)

// body is a packet without its fixed header.
func body(parts ...any) (out []byte) {
	for _, p := range parts {
		switch p := p.(type) {
		case int:
			out = append(out, byte(p))
		case string:
			out = appendText(out, p)
		case []byte:
			out = append(out, p...)
		}
	}
	return out
}

// properties are those of MQTT 5, with their length.
func properties(parts ...any) []byte {
	b := body(parts...)
	return append(appendVarint(nil, len(b)), b...)
}

func reasonOf(err error) byte {
	var v *violation
	if !errors.As(err, &v) {
		return 0
	}
	return v.reason
}

func TestConnectIsChecked(t *testing.T) {
	t.Parallel()
	hello := func(version, flags int, rest ...any) []byte {
		return body("MQTT", version, flags, 0, 60, body(rest...))
	}
	will := []any{"c", "topic", "payload"}
	for _, c := range []struct {
		name   string
		body   []byte
		reason byte
	}{
		{"3.1", body("MQIsdp", 3, 2, 0, 60, "c"), 0},
		{"3.1.1", hello(4, 0xC2, "c", "user", "password"), 0},
		{"5", hello(5, 0xC2, properties(), "c", "user", "password"), 0},
		{"5 with properties", hello(5, 2, properties(0x11, 0, 0, 0, 1, 0x21, 0, 1, 0x26, "a", "b", 0x26, "a", "b"), "c"), 0},
		{"will", hello(4, 0x2E, will...), 0},
		{"5 with will", hello(5, 0x0E, properties(), "c", properties(0x18, 0, 0, 0, 1, 0x02, 0, 0, 0, 1), "topic", "payload"), 0},
		{"[MQTT-3.1.2-1] other protocol", body("MQTX", 4, 2, 0, 60, "c"), badVersion},
		{"[MQTT-3.1.2-2] version 2", hello(2, 2, "c"), badVersionThree},
		{"[MQTT-3.1.2-2] version 3 under the newer name", hello(3, 2, "c"), badVersionThree},
		{"version 6", hello(6, 2, "c"), badVersion},
		{"[MQTT-3.1.2-3] reserved flag", hello(4, 3, "c"), malformed},
		{"[MQTT-3.1.2-13] QoS without a will", hello(4, 0x0A, "c"), malformed},
		{"[MQTT-3.1.2-14] will of QoS 3", hello(4, 0x1E, will...), malformed},
		{"[MQTT-3.1.2-15] retained without a will", hello(4, 0x22, "c"), malformed},
		{"[MQTT-3.1.2-22] password without user name", hello(4, 0x42, "c", "password"), malformed},
		{"5: password without user name", hello(5, 0x42, properties(), "c", "password"), 0},
		{"user name missing", hello(4, 0x82, "c"), malformed},
		{"[MQTT-1.5.3-1] client id", hello(4, 2, "\xff"), malformed},
		{"[MQTT-1.5.3-1] surrogate", hello(4, 2, "\xed\xa0\x80"), malformed},
		{"[MQTT-1.5.3-2] U+0000", hello(4, 2, "a\x00b"), malformed},
		{"[MQTT-3.1.3-11] user name", hello(4, 0x82, "c", "\xff"), malformed},
		{"something behind", hello(4, 2, "c", 0), malformed},
		{"[MQTT5-3.2.2-13] will to be retained", hello(5, 0x2E, properties(), "c", properties(), "topic", "payload"), noRetain},
		{"[MQTT5-4.12.0-1] method", hello(5, 2, properties(0x15, "SCRAM"), "c"), badMethod},
		{"[MQTT5-3.1.2.11.10] data without method", hello(5, 2, properties(0x16, "x"), "c"), protocolError},
		{"[MQTT5-3.1.2.11.3] receive maximum 0", hello(5, 2, properties(0x21, 0, 0), "c"), protocolError},
		{"[MQTT5-3.1.2.11.4] packets of 0 bytes", hello(5, 2, properties(0x27, 0, 0, 0, 0), "c"), protocolError},
		{"[MQTT5-3.1.2.11.7] problem information 2", hello(5, 2, properties(0x17, 2), "c"), protocolError},
		{"[MQTT5-3.1.2.11.2] twice", hello(5, 2, properties(0x11, 0, 0, 0, 1, 0x11, 0, 0, 0, 1), "c"), protocolError},
		{"property of PUBLISH", hello(5, 2, properties(0x23, 0, 1), "c"), protocolError},
		{"unknown property", hello(5, 2, properties(0x7F), "c"), protocolError},
		{"property over the end of the properties", hello(5, 2, 2, 0x21, 0, 1, "c"), malformed},
		{"properties over the end of the packet", hello(5, 2, 0x7F, "c"), malformed},
		{"[MQTT5-1.5.5-1] length with a byte too many", hello(5, 2, 0x80, 0, "c"), malformed},
		{"empty", nil, badVersion},
	} {
		if _, err := checkConnect(0x10, c.body); reasonOf(err) != c.reason || (err == nil) != (c.reason == 0) {
			t.Errorf("%s: %v, reason %#x, want %#x", c.name, err, reasonOf(err), c.reason)
		}
	}
	if _, err := checkConnect(0x11, hello(4, 2, "c")); err == nil {
		t.Error("CONNECT with flags in its first byte")
	}
}

func TestPacketsAreChecked(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name           string
		version, first byte
		body           []byte
		reason         byte
	}{
		{"PUBLISH of QoS 0", 4, 0x30, body("t", []byte("payload")), 0},
		{"PUBLISH again", 4, 0x3A, body("t", 0, 1), 0},
		{"PUBLISH with properties", 5, 0x32, body("t", 0, 1, properties(0x01, 1, 0x08, "r", 0x09, "c", 0x26, "a", "b")), 0},
		{"[MQTT-3.3.1-4] QoS 3", 4, 0x36, body("t", 0, 1), malformed},
		{"[MQTT-3.3.1-2] again with QoS 0", 4, 0x38, body("t"), malformed},
		{"[MQTT-2.3.1-1] packet id 0", 4, 0x32, body("t", 0, 0), protocolError},
		{"[MQTT-4.7.3-1] no topic", 4, 0x30, body(""), protocolError},
		{"topic alias", 5, 0x30, body("", properties(0x23, 0, 1)), 0},
		{"no topic and no alias", 5, 0x30, body("", properties()), protocolError},
		{"[MQTT-3.3.2-1] topic", 4, 0x30, body("\xff"), malformed},
		{"[MQTT5-3.3.2.3.2] format 2", 5, 0x30, body("t", properties(0x01, 2)), protocolError},
		{"[MQTT5-3.3.2.3.2] format twice", 5, 0x30, body("t", properties(0x01, 1, 0x01, 1)), protocolError},
		{"[MQTT5-3.3.4-6] subscription identifier", 5, 0x30, body("t", properties(0x0B, 1)), protocolError},
		{"property that goes on in the payload", 5, 0x30, body("t", 2, 0x08, "abc"), malformed},
		{"PUBACK", 4, 0x40, body(0, 1), 0},
		{"PUBACK with a reason", 5, 0x40, body(0, 1, 0x80), 0},
		{"PUBACK with properties", 5, 0x40, body(0, 1, 0x10, properties(0x1F, "why")), 0},
		{"PUBACK that is too long", 4, 0x40, body(0, 1, 0), malformed},
		{"PUBACK that is too short", 4, 0x40, body(0), malformed},
		{"[MQTT5-3.4.2-1] reason of PUBACK", 5, 0x40, body(0, 1, 1), protocolError},
		{"[MQTT5-3.6.2-1] reason of PUBREL", 5, 0x62, body(0, 1, 0x80), protocolError},
		{"[MQTT-3.6.1-1] flags of PUBREL", 4, 0x60, body(0, 1), malformed},
		{"PUBREC for packet id 0", 4, 0x50, body(0, 0), protocolError},
		{"PUBCOMP", 5, 0x70, body(0, 1, 0x92, properties()), 0},
		{"SUBSCRIBE", 4, 0x82, body(0, 1, "#", 1, "a", 2), 0},
		{"SUBSCRIBE of 5", 5, 0x82, body(0, 1, properties(0x0B, 0xFF, 1), "#", 0x2E), 0},
		{"[MQTT-3.8.1-1] flags of SUBSCRIBE", 4, 0x80, body(0, 1, "#", 1), malformed},
		{"[MQTT-3.8.3-3] no filter", 4, 0x82, body(0, 1), protocolError},
		{"[MQTT-3-8.3-4] QoS 3", 4, 0x82, body(0, 1, "#", 3), malformed},
		{"[MQTT-3-8.3-4] options of MQTT 5", 4, 0x82, body(0, 1, "#", 4), malformed},
		{"[MQTT5-3.8.3-5] reserved options", 5, 0x82, body(0, 1, properties(), "#", 0x40), malformed},
		{"[MQTT5-3.8.3.1] retain handling 3", 5, 0x82, body(0, 1, properties(), "#", 0x30), protocolError},
		{"[MQTT5-3.8.3-4] no local and shared", 5, 0x82, body(0, 1, properties(), "$share/g/#", 4), protocolError},
		{"[MQTT5-3.8.2.1.2] identifier 0", 5, 0x82, body(0, 1, properties(0x0B, 0), "#", 0), protocolError},
		{"[MQTT5-3.8.2.1.2] two identifiers", 5, 0x82, body(0, 1, properties(0x0B, 1, 0x0B, 2), "#", 0), protocolError},
		{"SUBSCRIBE without options", 5, 0x82, body(0, 1, properties(), "#"), malformed},
		{"UNSUBSCRIBE", 5, 0xA2, body(0, 1, properties(0x26, "a", "b"), "#", "a"), 0},
		{"[MQTT-3.10.3-2] no filter", 5, 0xA2, body(0, 1, properties()), protocolError},
		{"[MQTT-3.10.3-1] filter", 4, 0xA2, body(0, 1, "\xff"), malformed},
		{"PINGREQ", 4, 0xC0, nil, 0},
		{"PINGREQ with something", 4, 0xC0, body(0), malformed},
		{"DISCONNECT", 4, 0xE0, nil, 0},
		{"DISCONNECT with a reason only", 5, 0xE0, body(4), 0},
		{"DISCONNECT with properties", 5, 0xE0, body(0, properties(0x11, 0, 0, 0, 1)), 0},
		{"DISCONNECT with something", 4, 0xE0, body(0), malformed},
		{"[MQTT5-3.14.2-1] reason", 5, 0xE0, body(1), protocolError},
		{"[MQTT-3.14.1-1] flags", 4, 0xE1, nil, malformed},
		{"[MQTT5-3.14.2.2.5] server reference", 5, 0xE0, body(0, properties(0x1C, "other")), protocolError},
		{"[MQTT-3.1.0-2] second CONNECT", 4, 0x10, body("MQTT", 4, 2, 0, 60, "c"), protocolError},
		{"AUTH", 5, 0xF0, nil, protocolError},
		{"CONNACK", 5, 0x20, body(0, 0, properties()), protocolError},
		{"type 0", 5, 0x00, nil, protocolError},
	} {
		if err := checkPacket(c.version, c.first, c.body); reasonOf(err) != c.reason || (err == nil) != (c.reason == 0) {
			t.Errorf("%s: %v, reason %#x, want %#x", c.name, err, reasonOf(err), c.reason)
		}
	}
}

func TestViolationIsAnsweredAfterWhatCameBefore(t *testing.T) {
	t.Parallel()
	w := newWorld()
	s := start(t, w.config())
	for _, version := range []byte{4, 5} {
		c := dial(t, s)
		c.login(t, version, "c", "app1", "all")
		out := publishPacket("v3/app1/devices/dev1/down/push", push, 1, 1)
		out.ProtocolVersion = version
		c.write(t, append(encode(t, out), 0xC0, 1, 0))
		c.expect(t, packets.Puback)
		want := byte(0) // older versions know no DISCONNECT from a server
		if version == 5 {
			want = malformed
		}
		if reason := c.ends(t); reason != want {
			t.Errorf("version %d: reason %#x", version, reason)
		}
		w.next(t)
	}
	c := dial(t, s)
	c.write(t, []byte{0x10, 11, 0, 4, 'M', 'Q', 'T', 'T', 5, 3, 0, 60, 0})
	if ack := c.expect(t, packets.Connack); ack.ReasonCode != malformed {
		t.Errorf("CONNACK %#x", ack.ReasonCode)
	}
}

// splits read a stream in several ways.
var splits = map[string]func(io.Reader) io.Reader{"whole": func(r io.Reader) io.Reader { return r }, "bytes": iotest.OneByteReader, "halves": iotest.HalfReader}

// taken is what the intake lets through of a stream.
func taken(stream []byte, split func(io.Reader) io.Reader) ([]byte, error) {
	in, p := intake{}, make([]byte, 100)
	from := split(bytes.NewReader(stream))
	var out []byte
	for {
		n, err := in.read(from, p)
		out = append(out, p[:n]...)
		if err != nil {
			return out, err
		}
	}
}

func TestIntakeGivesWholePacketsHoweverTheyCome(t *testing.T) {
	t.Parallel()
	good := encode(t, connectPacket(4, "c", "app1", "all"))
	for _, size := range []int{0, 100, 1000, 5000, 70000, 10} {
		good = append(good, encode(t, publishPacket("t", string(make([]byte, size)), 1, 7))...)
	}
	for name, split := range splits {
		for _, end := range [][]byte{nil, {0x30}, {0x30, 0x80}, {0x30, 50, 0, 1}} { // what is not complete is kept back
			if out, err := taken(slices.Concat(good, end), split); !bytes.Equal(out, good) || !errors.Is(err, io.EOF) {
				t.Errorf("%s: %d bytes of %d, %v", name, len(out), len(good), err)
			}
		}
		for reason, end := range map[byte][]byte{malformed: {0xC0, 0xFF, 0xFF, 0xFF, 0xFF, 0x01}, packetTooLarge: {0x30, 0xFF, 0xFF, 0xFF, 0x7F}} {
			if out, err := taken(slices.Concat(good, end), split); !bytes.Equal(out, good) || reasonOf(err) != reason {
				t.Errorf("%s: %d bytes of %d, %v", name, len(out), len(good), err)
			}
		}
		bye := append(slices.Clone(good), 0xE0, 0)
		if out, err := taken(append(slices.Clone(bye), 0xC0, 0), split); !bytes.Equal(out, bye) || !errors.Is(err, io.EOF) { // nothing comes after DISCONNECT
			t.Errorf("%s: %d bytes of %d, %v", name, len(out), len(bye), err)
		}
	}
}

func TestPacketThatHasNotComeTakesNoRoom(t *testing.T) {
	t.Parallel()
	in := intake{version: 4}
	stream := append([]byte{0x30, 0xFF, 0xFF, 0x3F}, make([]byte, 3000)...) // claims to be of 1 MiB
	if _, err := in.read(bytes.NewReader(stream), make([]byte, 100)); !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	if cap(in.held) > 8<<10 {
		t.Errorf("%d bytes are held for %d", cap(in.held), len(stream))
	}
}

// FuzzPacket checks that the library can read whatever was found to be right.
func FuzzPacket(f *testing.F) {
	f.Add(byte(2), byte(0x32), body("t", 0, 1, properties(0x01, 1, 0x08, "r", 0x09, "c", 0x26, "a", "b")))
	f.Add(byte(2), byte(0x82), body(0, 1, properties(0x0B, 0xFF, 1), "#", 0x2E))
	f.Add(byte(1), byte(0xA2), body(0, 1, "#", "a"))
	f.Add(byte(2), byte(0xE0), body(0, properties(0x11, 0, 0, 0, 1)))
	f.Add(byte(2), byte(0x50), body(0, 1, 0x10, properties(0x1F, "why")))
	f.Add(byte(2), byte(0x10), body("MQTT", 5, 0x0E, 0, 60, properties(), "c", properties(0x18, 0, 0, 0, 1), "topic", "payload"))
	f.Fuzz(func(t *testing.T, version, first byte, data []byte) {
		version = 3 + version%3
		pk := packets.Packet{ProtocolVersion: version}
		if first>>4 == typeConnect {
			if _, err := checkConnect(first, data); err != nil {
				return
			}
		} else if checkPacket(version, first, data) != nil {
			return
		}
		if err := pk.FixedHeader.Decode(first); err != nil {
			t.Fatal(err)
		}
		pk.FixedHeader.Remaining = len(data)
		decode := map[byte]func([]byte) error{
			typeConnect: pk.ConnectDecode, typePublish: pk.PublishDecode, typePuback: pk.PubackDecode, typePubrec: pk.PubrecDecode, typePubrel: pk.PubrelDecode,
			typePubcomp: pk.PubcompDecode, typeSubscribe: pk.SubscribeDecode, typeUnsubscribe: pk.UnsubscribeDecode, typePingreq: pk.PingreqDecode,
			typeDisconnect: pk.DisconnectDecode,
		}[first>>4]
		if err := decode(data); err != nil {
			t.Fatal(err)
		}
	})
}
