package broker

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"
	"unicode/utf8"
)

// Types of packets [MQTT-2.1.2].
const (
	typeConnect     = 1
	typePublish     = 3
	typePuback      = 4
	typePubrec      = 5
	typePubrel      = 6
	typePubcomp     = 7
	typeSubscribe   = 8
	typeUnsubscribe = 10
	typePingreq     = 12
	typeDisconnect  = 14
	typeAuth        = 15
)

// Reasons for which a packet is not taken [MQTT5-2.4]. Older versions know none but badVersion; the connection ends without a word.
const (
	malformed       = 0x81
	protocolError   = 0x82
	badVersion      = 0x84
	badMethod       = 0x8C
	packetTooLarge  = 0x95
	noRetain        = 0x9A
	badVersionThree = 0x01
)

// violation is a packet that breaks the rules of MQTT: the connection ends [MQTT-4.8.0-1, MQTT5-4.13.1].
type violation struct {
	reason byte
	text   string
}

// Error says which rule it is.
func (v *violation) Error() string { return v.text }

func broken(reason byte, format string, args ...any) error {
	return &violation{reason, fmt.Sprintf(format, args...)}
}

// checkPacket says whether a client may send a packet, so that the library reads only what has the right form: it looks at little of it, and can panic
// over the rest. first is the first byte and body what follows the Remaining Length.
func checkPacket(version, first byte, body []byte) error {
	r := &packetReader{rest: body, version: version}
	kind, flags := first>>4, first&0x0F
	wanted := byte(0)
	switch kind {
	case typePublish:
		return r.publish(flags)
	case typePubrel, typeSubscribe, typeUnsubscribe:
		wanted = 0x02
	}
	if flags != wanted { // [MQTT-2.2.2-2]
		return broken(malformed, "a packet of type %d has the flags %#x", kind, flags)
	}
	switch kind {
	case typePuback, typePubrec, typePubrel, typePubcomp:
		return r.acknowledgement(kind)
	case typeSubscribe:
		return r.subscribe()
	case typeUnsubscribe:
		return r.unsubscribe()
	case typePingreq:
		return r.end()
	case typeDisconnect:
		return r.disconnect()
	case typeConnect:
		return broken(protocolError, "a second CONNECT") // [MQTT-3.1.0-2]
	case typeAuth:
		return broken(protocolError, "AUTH, though no authentication method was agreed on") // [MQTT5-4.12.0]
	}
	return broken(protocolError, "a client sends no packet of type %d", kind)
}

// packetReader takes a packet apart. The first thing that is wrong is kept in err, and what is read after it is empty.
type packetReader struct {
	rest    []byte
	version byte
	err     error
}

func (r *packetReader) fail(reason byte, format string, args ...any) {
	if r.err == nil {
		r.err = broken(reason, format, args...)
	}
	r.rest = nil
}

func (r *packetReader) take(n int) []byte {
	if n > len(r.rest) {
		r.fail(malformed, "the packet ends in the middle of something")
		return make([]byte, min(n, 4))
	}
	out := r.rest[:n]
	r.rest = r.rest[n:]
	return out
}

func (r *packetReader) byte() byte     { return r.take(1)[0] }
func (r *packetReader) uint16() uint16 { return binary.BigEndian.Uint16(r.take(2)) }
func (r *packetReader) uint32() uint32 { return binary.BigEndian.Uint32(r.take(4)) }
func (r *packetReader) binary() []byte { return r.take(int(r.uint16())) }

// text reads a UTF-8 string [MQTT-1.5.3].
func (r *packetReader) text() string {
	b := r.binary()
	if !utf8.Valid(b) || bytes.IndexByte(b, 0) >= 0 {
		r.fail(malformed, "a text is not UTF-8, or holds U+0000")
	}
	return string(b)
}

// varint reads a Variable Byte Integer [MQTT5-1.5.5].
func (r *packetReader) varint() (n int) {
	for shift := 0; shift < 28; shift += 7 {
		b := r.byte()
		n |= int(b&0x7F) << shift
		if b&0x80 == 0 {
			if b == 0 && shift > 0 {
				r.fail(malformed, "a number takes more bytes than it needs") // [MQTT5-1.5.5-1]
			}
			return n
		}
	}
	r.fail(malformed, "a number takes more than four bytes")
	return 0
}

// packetID reads one, which is never 0 [MQTT-2.3.1-1].
func (r *packetReader) packetID() {
	if r.uint16() == 0 {
		r.fail(protocolError, "packet identifier 0")
	}
}

// end expects that nothing is left.
func (r *packetReader) end() error {
	if len(r.rest) > 0 {
		r.fail(malformed, "the packet is longer than what it holds")
	}
	return r.err
}

// checkConnect is checkPacket for the first packet. The version is what the client asks for, 0 if that is not to be seen.
func checkConnect(first byte, body []byte) (version byte, err error) {
	if first != typeConnect<<4 { // [MQTT-3.1.0-1]
		return 0, broken(protocolError, "the first packet is no CONNECT")
	}
	r := &packetReader{rest: body}
	name := string(r.binary())
	version = r.byte()
	switch {
	case r.err != nil || name != "MQTT" && name != "MQIsdp": // [MQTT-3.1.2-1]
		return 0, broken(badVersion, "the first packet is no CONNECT of MQTT")
	case version > 5:
		return version, broken(badVersion, "version %d of MQTT", version)
	case version < 3 || name == "MQTT" && version == 3 || name == "MQIsdp" && version != 3: // [MQTT-3.1.2-2]
		return version, broken(badVersionThree, "version %d of %s", version, name)
	}
	r.version = version
	flags := r.byte()
	_ = r.uint16() // keep-alive
	will, user, password := flags&0x04 != 0, flags&0x80 != 0, flags&0x40 != 0
	switch {
	case flags&0x01 != 0: // [MQTT-3.1.2-3]
		r.fail(malformed, "the reserved flag of CONNECT is set")
	case flags>>3&3 == 3 || !will && flags&0x38 != 0: // [MQTT-3.1.2-11, MQTT-3.1.2-13, MQTT-3.1.2-14]
		r.fail(malformed, "QoS or retain flag of the will are impossible")
	case password && !user && version < 5: // [MQTT-3.1.2-22]
		r.fail(malformed, "a password without a user name")
	}
	r.connectProperties()
	_ = r.text() // client id
	if will {
		r.properties(propertiesOfWill)
		if r.text() == "" {
			r.fail(protocolError, "the topic of the will is empty")
		}
		_ = r.binary()
		if flags&0x20 != 0 && version == 5 { // [MQTT5-3.2.2-13]
			r.fail(noRetain, "the will is to be retained")
		}
	}
	if user {
		_ = r.text()
	}
	if password {
		_ = r.binary()
	}
	return version, r.end()
}

func (r *packetReader) connectProperties() {
	seen := r.properties(propertiesOfConnect)
	switch {
	case seen[propAuthenticationMethod]:
		r.fail(badMethod, "an authentication method; there is only the password") // [MQTT5-4.12.0-1]
	case seen[propAuthenticationData]:
		r.fail(protocolError, "authentication data without a method") // [MQTT5-3.1.2.11.10]
	}
}

func (r *packetReader) publish(flags byte) error {
	qos := flags >> 1 & 3
	switch {
	case qos == 3: // [MQTT-3.3.1-4]
		return broken(malformed, "PUBLISH with QoS 3")
	case qos == 0 && flags&0x08 != 0: // [MQTT-3.3.1-2]
		return broken(malformed, "PUBLISH with QoS 0 can't be a repetition")
	}
	topic := r.text()
	if qos > 0 {
		r.packetID()
	}
	seen := r.properties(propertiesOfPublish)
	switch {
	case seen[propSubscriptionIdentifier]: // [MQTT5-3.3.4-6]
		r.fail(protocolError, "a client publishes no subscription identifier")
	case topic == "" && !seen[propTopicAlias]: // [MQTT-4.7.3-1]
		r.fail(protocolError, "PUBLISH without a topic")
	}
	return r.err
}

// acknowledgement reads PUBACK, PUBREC, PUBREL and PUBCOMP.
func (r *packetReader) acknowledgement(kind byte) error {
	r.packetID()
	if r.version == 5 && len(r.rest) > 0 {
		reason := r.byte()
		known := reasonsOfPuback
		if kind == typePubrel || kind == typePubcomp {
			known = reasonsOfPubrel
		}
		if strings.IndexByte(known, reason) < 0 {
			r.fail(protocolError, "a packet of type %d has the reason %#x", kind, reason)
		}
		if len(r.rest) > 0 {
			r.properties(propertiesOfAck)
		}
	}
	return r.end()
}

// The reason codes that these packets of a client may have [MQTT5-2.4].
const (
	reasonsOfPuback     = "\x00\x10\x80\x83\x87\x90\x91\x97\x99"
	reasonsOfPubrel     = "\x00\x92"
	reasonsOfDisconnect = "\x00\x04\x80\x81\x82\x83\x90\x93\x94\x95\x96\x97\x98\x99"
)

func (r *packetReader) subscribe() error {
	r.packetID()
	r.properties(propertiesOfSubscribe)
	if len(r.rest) == 0 { // [MQTT-3.8.3-3]
		r.fail(protocolError, "SUBSCRIBE without a topic filter")
	}
	for len(r.rest) > 0 {
		filter := r.text()
		options := r.byte()
		switch {
		case options&3 == 3, r.version < 5 && options > 2: // [MQTT-3-8.3-4]
			r.fail(malformed, "SUBSCRIBE with the QoS %#x", options)
		case options&0xC0 != 0: // [MQTT5-3.8.3-5]
			r.fail(malformed, "SUBSCRIBE with the options %#x", options)
		case options&0x30 == 0x30: // [MQTT5-3.8.3.1]
			r.fail(protocolError, "SUBSCRIBE with retain handling 3")
		case options&0x04 != 0 && strings.HasPrefix(filter, "$share/"): // [MQTT5-3.8.3-4]
			r.fail(protocolError, "no local and a shared subscription")
		}
	}
	return r.err
}

func (r *packetReader) unsubscribe() error {
	r.packetID()
	r.properties(propertiesOfUnsubscribe)
	if len(r.rest) == 0 { // [MQTT-3.10.3-2]
		r.fail(protocolError, "UNSUBSCRIBE without a topic filter")
	}
	for len(r.rest) > 0 {
		_ = r.text()
	}
	return r.err
}

func (r *packetReader) disconnect() error {
	if r.version == 5 && len(r.rest) > 0 {
		if reason := r.byte(); strings.IndexByte(reasonsOfDisconnect, reason) < 0 {
			r.fail(protocolError, "DISCONNECT with the reason %#x", reason)
		}
		if len(r.rest) > 0 {
			r.properties(propertiesOfDisconnect)
		}
	}
	return r.end()
}
