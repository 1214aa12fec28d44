package broker

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
)

// raw is a client that says exactly what it is told to.
type raw struct {
	net.Conn
	r       *bufio.Reader
	version byte
}

func dial(t testing.TB, s *Server) *raw {
	t.Helper()
	c, err := net.Dial("tcp", s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	return newRaw(t, c)
}

func newRaw(t testing.TB, c net.Conn) *raw {
	t.Helper()
	t.Cleanup(func() { _ = c.Close() })
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return &raw{Conn: c, r: bufio.NewReader(c), version: 5}
}

// pipe gives a client that is connected without a network, for tests with a clock of their own.
func pipe(t testing.TB, s *Server) *raw {
	t.Helper()
	client, server := net.Pipe()
	g := newGuest(server)
	if refused := s.doorkeeper.enter(g); refused != "" {
		t.Fatal("refused:", refused)
	}
	s.running.Go(func() { s.serve(server, g) })
	c := newRaw(t, client)
	_ = client.SetDeadline(time.Time{})
	return c
}

// unnetworked is a server without a socket.
func unnetworked(t testing.TB, cfg Config) (s *Server, closeIt func()) {
	t.Helper()
	cfg.setDefaults()
	s, err := newServer(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s, func() {
		if err := s.Close(context.Background()); err != nil {
			t.Error(err)
		}
	}
}

func connectPacket(version byte, id, user, key string, change ...func(*packets.Packet)) packets.Packet {
	pk := packets.Packet{ProtocolVersion: version, FixedHeader: packets.FixedHeader{Type: packets.Connect}, Connect: packets.ConnectParams{
		ProtocolName: []byte("MQTT"), Clean: true, Keepalive: 60, ClientIdentifier: id, UsernameFlag: true, Username: []byte(user),
		PasswordFlag: true, Password: []byte(key),
	}}
	for _, f := range change {
		f(&pk)
	}
	return pk
}

func encode(t testing.TB, pk packets.Packet) []byte {
	t.Helper()
	var b bytes.Buffer
	pk.Mods.AllowResponseInfo = true
	var err error
	switch pk.FixedHeader.Type {
	case packets.Connect:
		err = pk.ConnectEncode(&b)
	case packets.Publish:
		err = pk.PublishEncode(&b)
	case packets.Subscribe:
		err = pk.SubscribeEncode(&b)
	case packets.Unsubscribe:
		err = pk.UnsubscribeEncode(&b)
	case packets.Puback:
		err = pk.PubackEncode(&b)
	case packets.Pubrec:
		err = pk.PubrecEncode(&b)
	case packets.Pubrel:
		err = pk.PubrelEncode(&b)
	case packets.Pubcomp:
		err = pk.PubcompEncode(&b)
	case packets.Pingreq:
		err = pk.PingreqEncode(&b)
	case packets.Disconnect:
		err = pk.DisconnectEncode(&b)
	default:
		t.Fatalf("no encoder for type %d", pk.FixedHeader.Type)
	}
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func (c *raw) send(t testing.TB, pk packets.Packet) {
	t.Helper()
	pk.ProtocolVersion = c.version
	c.write(t, encode(t, pk))
}

func (c *raw) write(t testing.TB, b []byte) {
	t.Helper()
	if _, err := c.Write(b); err != nil {
		t.Fatal(err)
	}
}

// read gives the next packet, or the error that ended the connection.
func (c *raw) read() (pk packets.Packet, err error) {
	first, err := c.r.ReadByte()
	if err != nil {
		return pk, err
	}
	if err := pk.FixedHeader.Decode(first); err != nil {
		return pk, err
	}
	n, _, err := packets.DecodeLength(c.r)
	if err != nil {
		return pk, err
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(c.r, body); err != nil {
		return pk, err
	}
	pk.ProtocolVersion, pk.FixedHeader.Remaining = c.version, n
	switch pk.FixedHeader.Type {
	case packets.Connack:
		err = pk.ConnackDecode(body)
	case packets.Publish:
		err = pk.PublishDecode(body)
	case packets.Puback:
		err = pk.PubackDecode(body)
	case packets.Pubrec:
		err = pk.PubrecDecode(body)
	case packets.Pubrel:
		err = pk.PubrelDecode(body)
	case packets.Pubcomp:
		err = pk.PubcompDecode(body)
	case packets.Suback:
		err = pk.SubackDecode(body)
	case packets.Unsuback:
		err = pk.UnsubackDecode(body)
	case packets.Disconnect:
		err = pk.DisconnectDecode(body)
	}
	return pk, err
}

// expect reads a packet of the type.
func (c *raw) expect(t testing.TB, kind byte) packets.Packet {
	t.Helper()
	pk, err := c.read()
	if err != nil || pk.FixedHeader.Type != kind {
		t.Fatalf("got a packet of type %d (reason %#x), error %v; want type %d", pk.FixedHeader.Type, pk.ReasonCode, err, kind)
	}
	return pk
}

// ends expects the connection to end, and gives the reason of a DISCONNECT before.
func (c *raw) ends(t testing.TB) (reason byte) {
	t.Helper()
	for {
		pk, err := c.read()
		var timeout net.Error
		switch {
		case err == nil && pk.FixedHeader.Type == packets.Disconnect:
			reason = pk.ReasonCode
		case err == nil:
		case asTimeout(err, &timeout):
			t.Fatal("the connection does not end")
		default:
			return reason
		}
	}
}

func asTimeout(err error, target *net.Error) bool {
	e, ok := err.(net.Error)
	*target = e
	return ok && e.Timeout()
}

func (c *raw) login(t testing.TB, version byte, id, user, key string, change ...func(*packets.Packet)) packets.Packet {
	t.Helper()
	c.version = version
	c.send(t, connectPacket(version, id, user, key, change...))
	ack := c.expect(t, packets.Connack)
	if ack.ReasonCode != 0 {
		t.Fatalf("CONNACK %#x", ack.ReasonCode)
	}
	return ack
}

func (c *raw) subscribe(t testing.TB, filter string, qos byte, change ...func(*packets.Packet)) byte {
	t.Helper()
	pk := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Subscribe, Qos: 1}, PacketID: 7, Filters: packets.Subscriptions{{Filter: filter, Qos: qos}}}
	for _, f := range change {
		f(&pk)
	}
	c.send(t, pk)
	return c.expect(t, packets.Suback).ReasonCodes[0]
}

func publishPacket(topic, payload string, qos byte, id uint16) packets.Packet {
	return packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Publish, Qos: qos}, TopicName: topic, Payload: []byte(payload), PacketID: id}
}

func confirmation(kind byte, id uint16) packets.Packet {
	pk := packets.Packet{FixedHeader: packets.FixedHeader{Type: kind}, PacketID: id}
	if kind == packets.Pubrel {
		pk.FixedHeader.Qos = 1
	}
	return pk
}

func keepSession(seconds uint32) func(*packets.Packet) {
	return func(pk *packets.Packet) {
		pk.Connect.Clean = false
		pk.Properties.SessionExpiryInterval, pk.Properties.SessionExpiryIntervalFlag = seconds, true
	}
}

func receiveMaximum(n uint16) func(*packets.Packet) {
	return func(pk *packets.Packet) { pk.Properties.ReceiveMaximum = n }
}

func keepAlive(seconds uint16) func(*packets.Packet) {
	return func(pk *packets.Packet) { pk.Connect.Keepalive = seconds }
}
