package broker

import "encoding/binary"

// publishFrame is a PUBLISH packet to a client. Its topic is in three parts, so that no event needs a topic text of its own for each uid.
type publishFrame struct {
	prefix, device, suffix string
	payload                []byte
	qos                    byte
	dup, v5                bool
	id                     uint16 // of QoS 1 and 2
	subscriptions          []int  // subscription identifiers [MQTT5-3.3.2.3.8]
	eventID                string // for the user property event_id
	correlation            []byte // Correlation Data of the request that this answers [MQTT5-3.3.2.3.6]
}

// eventIDName is the user property by which a consumer knows an event that comes again.
const eventIDName = "event_id"

func (f *publishFrame) topicLen() int { return len(f.prefix) + len(f.device) + len(f.suffix) }

func (f *publishFrame) propertiesLen() (n int) {
	for _, id := range f.subscriptions {
		n += 1 + varintLen(id)
	}
	if f.correlation != nil {
		n += 1 + 2 + len(f.correlation)
	}
	if f.eventID != "" {
		n += 1 + 2 + len(eventIDName) + 2 + len(f.eventID)
	}
	return n
}

// remaining is the Remaining Length of the packet.
func (f *publishFrame) remaining() int {
	n := 2 + f.topicLen() + len(f.payload)
	if f.qos > 0 {
		n += 2
	}
	if f.v5 {
		p := f.propertiesLen()
		n += varintLen(p) + p
	}
	return n
}

// size of the whole packet in bytes.
func (f *publishFrame) size() int {
	n := f.remaining()
	return 1 + varintLen(n) + n
}

// append adds the packet to dst [MQTT-3.3].
func (f *publishFrame) append(dst []byte) []byte {
	first := byte(0x30) | f.qos<<1
	if f.dup {
		first |= 0x08
	}
	dst = append(dst, first)
	dst = appendVarint(dst, f.remaining())
	dst = binary.BigEndian.AppendUint16(dst, uint16(f.topicLen()))
	dst = append(dst, f.prefix...)
	dst = append(dst, f.device...)
	dst = append(dst, f.suffix...)
	if f.qos > 0 {
		dst = binary.BigEndian.AppendUint16(dst, f.id)
	}
	if f.v5 {
		dst = appendVarint(dst, f.propertiesLen())
		for _, id := range f.subscriptions {
			dst = appendVarint(append(dst, 0x0B), id)
		}
		if f.correlation != nil {
			dst = append(binary.BigEndian.AppendUint16(append(dst, 0x09), uint16(len(f.correlation))), f.correlation...)
		}
		if f.eventID != "" { // [MQTT5-3.3.2.3.7]
			dst = appendText(appendText(append(dst, 0x26), eventIDName), f.eventID)
		}
	}
	return append(dst, f.payload...)
}

func appendText(dst []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint16(dst, uint16(len(s))), s...)
}

// varintLen is the length of a Variable Byte Integer [MQTT5-1.5.5].
func varintLen(n int) int {
	switch {
	case n < 1<<7:
		return 1
	case n < 1<<14:
		return 2
	case n < 1<<21:
		return 3
	}
	return 4
}

func appendVarint(dst []byte, n int) []byte {
	for n >= 0x80 {
		dst = append(dst, byte(n)|0x80)
		n >>= 7
	}
	return append(dst, byte(n))
}

// pubrel is a PUBREL packet. A reason other than 0 is for MQTT 5 only.
func pubrel(id uint16, reason byte) []byte {
	if reason == 0 {
		return []byte{0x62, 2, byte(id >> 8), byte(id)}
	}
	return []byte{0x62, 4, byte(id >> 8), byte(id), reason, 0}
}

func pubrec(id uint16) []byte { return []byte{0x50, 2, byte(id >> 8), byte(id)} }

func pubcomp(id uint16) []byte { return []byte{0x70, 2, byte(id >> 8), byte(id)} }

// disconnect is a DISCONNECT packet of MQTT 5; older versions know none from a server.
func disconnect(reason byte) []byte { return []byte{0xE0, 2, reason, 0} }

// disconnectBecause says in words why, too [MQTT5-3.14.2.2.3].
func disconnectBecause(reason byte, text string) []byte {
	properties := appendText([]byte{0x1F}, text)
	out := append([]byte{0xE0}, byte(2+len(properties)), reason, byte(len(properties)))
	return append(out, properties...)
}
