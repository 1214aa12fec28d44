package broker

import (
	"strconv"
	"strings"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
)

// hook is what the MQTT library calls.
type hook struct {
	mqtt.HookBase
	server *Server
}

// ID names the hook.
func (h *hook) ID() string { return "lorikeet" }

// Provides says which calls are wanted.
func (h *hook) Provides(b byte) bool {
	switch b {
	case mqtt.OnConnect, mqtt.OnConnectAuthenticate, mqtt.OnSessionEstablished, mqtt.OnACLCheck, mqtt.OnPacketRead, mqtt.OnPacketEncode,
		mqtt.OnSubscribe, mqtt.OnSubscribed, mqtt.OnUnsubscribe, mqtt.OnUnsubscribed, mqtt.OnPublish:
		return true
	}
	return false
}

func clientOf(cl *mqtt.Client) *client {
	c, _ := cl.Net.Conn.(*client)
	return c
}

// OnConnect logs the client in and answers it if it is refused.
func (h *hook) OnConnect(cl *mqtt.Client, pk packets.Packet) error {
	c := clientOf(cl)
	code := h.server.login(c, cl, pk)
	// The library knows clients by this id only and would let one take over another. Here each connection is one of its own.
	cl.ID = strconv.FormatInt(h.server.lastClient.Add(1), 10)
	if code == packets.CodeSuccess {
		return nil
	}
	_ = h.server.mqtt.SendConnack(cl, code, false, nil)
	return code
}

// OnConnectAuthenticate comes after OnConnect, which has decided.
func (h *hook) OnConnectAuthenticate(cl *mqtt.Client, _ packets.Packet) bool {
	return clientOf(cl).session != nil
}

// OnSessionEstablished comes once CONNACK is written.
func (h *hook) OnSessionEstablished(cl *mqtt.Client, _ packets.Packet) {
	c := clientOf(cl)
	c.session.resume(c)
}

// OnACLCheck lets every publish come to OnPublish, which can answer it, and tells filters by their mark.
func (h *hook) OnACLCheck(_ *mqtt.Client, topic string, write bool) bool {
	return write || strings.HasPrefix(topic, granted)
}

// OnPacketRead takes the confirmations of what was sent to the client from the library, which knows nothing of it. What the library gets instead is a
// confirmation of nothing.
func (h *hook) OnPacketRead(cl *mqtt.Client, pk packets.Packet) (packets.Packet, error) {
	c := clientOf(cl)
	if c.session == nil {
		return pk, nil
	}
	nothing := packets.Packet{ProtocolVersion: pk.ProtocolVersion, FixedHeader: packets.FixedHeader{Type: packets.Puback}}
	switch pk.FixedHeader.Type {
	case packets.Publish:
		if _, here := cl.State.Inflight.Get(pk.PacketID); here && pk.FixedHeader.Qos == 2 && c.session.seen(pk.PacketID) { // [MQTT-4.3.3-10]
			_, _ = c.Write(pubrec(pk.PacketID)) // the library would say that the id is in use, which means refused
			return nothing, nil
		}
		if strings.HasPrefix(pk.TopicName, "$") || strings.ContainsAny(pk.TopicName, "+#") { // the library would give no answer
			pk.TopicName = strings.TrimSuffix(refused, "/")
		}
	case packets.Puback:
		c.session.puback(pk.PacketID, 1)
		return nothing, nil
	case packets.Pubrec:
		if reason, answer := c.session.pubrec(pk.PacketID, pk.ReasonCode >= 0x80); answer {
			if !c.v5 {
				reason = 0
			}
			_, _ = c.Write(pubrel(pk.PacketID, reason))
		}
		return nothing, nil
	case packets.Pubcomp:
		c.session.puback(pk.PacketID, 2)
		return nothing, nil
	case packets.Pubrel:
		known := c.session.release(pk.PacketID)
		if _, here := cl.State.Inflight.Get(pk.PacketID); known && !here { // of an earlier connection of this session
			_, _ = c.Write(pubcomp(pk.PacketID))
			return nothing, nil
		}
	case packets.Disconnect:
		h.server.mu.Lock()
		c.left = c.intake.farewell == 0 // [MQTT5-3.1.2-10]
		h.server.mu.Unlock()
	}
	return pk, nil
}

// OnPacketEncode completes CONNACK, SUBACK and UNSUBACK.
func (h *hook) OnPacketEncode(cl *mqtt.Client, pk packets.Packet) packets.Packet {
	c := clientOf(cl)
	switch pk.FixedHeader.Type {
	case packets.Connack:
	case packets.Suback, packets.Unsuback:
		ownCodes(c, &pk)
		return pk
	default:
		return pk
	}
	if pk.ReasonCode == packets.CodeSuccess.Code {
		pk.SessionPresent = c.present
	}
	switch version := cl.Properties.ProtocolVersion; {
	case version < 3:
		pk.ReasonCode = packets.Err3UnsupportedProtocolVersion.Code
		return pk
	case version < 5:
		pk.ReasonCode = connackV3(pk.ReasonCode)
		return pk
	case version > 5:
		pk.ReasonCode = packets.ErrUnsupportedProtocolVersion.Code
		return pk
	}
	pk.Properties.MaximumPacketSize = maxPacket
	pk.Properties.RetainAvailable, pk.Properties.RetainAvailableFlag = 0, true
	if h.server.cfg.Node != "" {
		pk.Properties.SharedSubAvailable, pk.Properties.SharedSubAvailableFlag = 0, true
	}
	return pk
}

// connackV3 gives the return code of MQTT 3.1.1 for reasons that the library sends as they are [MQTT-3.2.2.3].
func connackV3(code byte) byte {
	switch {
	case code <= 5:
		return code
	case code == packets.ErrServerUnavailable.Code, code == packets.ErrServerBusy.Code, code == packets.ErrQuotaExceeded.Code,
		code == packets.ErrConnectionRateExceeded.Code:
		return 3
	case code == packets.ErrClientIdentifierNotValid.Code, code == packets.ErrUnspecifiedError.Code: // empty, with a session to keep
		return 2
	}
	return 5
}
