package broker

import "strings"

// Properties of MQTT 5 that a client may send [MQTT5-2.2.2.2].
const (
	propPayloadFormat          = 0x01
	propMessageExpiry          = 0x02
	propContentType            = 0x03
	propResponseTopic          = 0x08
	propCorrelationData        = 0x09
	propSubscriptionIdentifier = 0x0B
	propSessionExpiry          = 0x11
	propAuthenticationMethod   = 0x15
	propAuthenticationData     = 0x16
	propRequestProblem         = 0x17
	propWillDelay              = 0x18
	propRequestResponse        = 0x19
	propReason                 = 0x1F
	propReceiveMaximum         = 0x21
	propAliasMaximum           = 0x22
	propTopicAlias             = 0x23
	propUser                   = 0x26
	propMaximumPacket          = 0x27
)

// What each packet may have.
const (
	propertiesOfConnect     = "\x11\x15\x16\x17\x19\x21\x22\x26\x27"
	propertiesOfWill        = "\x01\x02\x03\x08\x09\x18\x26"
	propertiesOfPublish     = "\x01\x02\x03\x08\x09\x0B\x23\x26"
	propertiesOfAck         = "\x1F\x26"
	propertiesOfSubscribe   = "\x0B\x26"
	propertiesOfUnsubscribe = "\x26"
	propertiesOfDisconnect  = "\x11\x1F\x26"
)

// properties reads those of a packet, and says which there are. Before MQTT 5 there are none.
func (r *packetReader) properties(allowed string) (seen [0x28]bool) {
	if r.version < 5 {
		return seen
	}
	n := r.varint()
	p := &packetReader{rest: r.take(n), version: r.version, err: r.err}
	for len(p.rest) > 0 {
		id := p.byte()
		switch {
		case strings.IndexByte(allowed, id) < 0:
			p.fail(protocolError, "the property %#x does not belong here", id)
		case seen[id] && id != propUser:
			p.fail(protocolError, "the property %#x is there twice", id)
		default:
			seen[id] = true
			p.property(id)
		}
	}
	if r.err == nil {
		r.err = p.err
	}
	return seen
}

func (r *packetReader) property(id byte) {
	valid := true
	switch id {
	case propPayloadFormat, propRequestProblem, propRequestResponse:
		valid = r.byte() <= 1
	case propReceiveMaximum:
		valid = r.uint16() > 0
	case propAliasMaximum, propTopicAlias: // the library answers a topic alias
		_ = r.uint16()
	case propMaximumPacket:
		valid = r.uint32() > 0
	case propMessageExpiry, propSessionExpiry, propWillDelay:
		_ = r.uint32()
	case propSubscriptionIdentifier:
		valid = r.varint() > 0
	case propCorrelationData, propAuthenticationData:
		_ = r.binary()
	case propUser:
		_, _ = r.text(), r.text()
	default:
		_ = r.text()
	}
	if !valid {
		r.fail(protocolError, "the property %#x has a value that it can't have", id)
	}
}
