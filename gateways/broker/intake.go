package broker

import (
	"errors"
	"io"
)

const (
	// readSize is what a connection reads at once, and keeps for it.
	readSize = 1 << 10
	// keptIntake is the largest buffer that a connection keeps when no packet is under way.
	keptIntake = 4 << 10
)

var errFirstPacket = errors.New("the first packet is larger than 64 KiB")

// intake cuts what a client sends into packets, checks each, and hands on whole ones only. So there is room for as much as has come, not for what a packet
// claims to hold, and the library sees nothing that has not the right form.
type intake struct {
	version  byte // of the client, 0 before its CONNECT
	farewell byte // the reason of its DISCONNECT

	held  []byte // what was read: first what was checked, then part of a packet
	given int    // bytes of held that were handed on
	whole int    // bytes of held that were checked
	err   error  // why there will be no more
}

// read fills p with packets that were checked. Its error comes after all that was right.
func (in *intake) read(from io.Reader, p []byte) (int, error) {
	for in.given == in.whole {
		if in.err != nil {
			return 0, in.err
		}
		in.compact()
		n, err := from.Read(in.room())
		in.held = in.held[:len(in.held)+n]
		if in.check(); in.err == nil {
			in.err = err
		}
	}
	n := copy(p, in.held[in.given:in.whole])
	in.given += n
	return n, nil
}

// compact forgets what was handed on.
func (in *intake) compact() {
	if in.whole == 0 {
		return // a long packet that comes in small pieces is not to be moved for each
	}
	rest := copy(in.held, in.held[in.whole:])
	in.held, in.given, in.whole = in.held[:rest], 0, 0
	if rest == 0 && cap(in.held) > keptIntake {
		in.held = nil
	}
}

// room gives the place to read into. It grows with what has come.
func (in *intake) room() []byte {
	if free := cap(in.held) - len(in.held); free < readSize/2 {
		grown := make([]byte, len(in.held), max(readSize, 2*cap(in.held)))
		copy(grown, in.held)
		in.held = grown
	}
	return in.held[len(in.held):cap(in.held)]
}

// check looks at the packets that have come whole.
func (in *intake) check() {
	for in.err == nil {
		p := in.held[in.whole:]
		header, body, err := in.measure(p)
		if err != nil {
			in.err = err
			return
		}
		if header == 0 || len(p) < header+body {
			return
		}
		if in.err = in.checkOne(p[0], p[header:header+body]); in.err == nil || errors.Is(in.err, io.EOF) {
			in.whole += header + body
		}
	}
}

func (in *intake) checkOne(first byte, body []byte) (err error) {
	if in.version == 0 {
		in.version, err = checkConnect(first, body)
		return err
	}
	if err := checkPacket(in.version, first, body); err != nil {
		return err
	}
	if first>>4 == typeDisconnect { // [MQTT-3.14.4-2]
		if len(body) > 0 {
			in.farewell = body[0]
		}
		return io.EOF
	}
	return nil
}

// measure reads the fixed header: its length, 0 if it is not complete, and that of the body [MQTT-2.2.3].
func (in *intake) measure(p []byte) (header, body int, err error) {
	for i := 1; i < len(p); i++ {
		if i > 4 {
			return 0, 0, broken(malformed, "the length of a packet takes more than four bytes")
		}
		body |= int(p[i]&0x7F) << (7 * (i - 1))
		if p[i]&0x80 == 0 {
			header = 1 + i
			break
		}
	}
	switch {
	case header == 0:
		return 0, 0, nil
	case in.version == 0 && body > maxConnectPacket:
		return 0, 0, errFirstPacket
	case header+body > maxPacket:
		return 0, 0, broken(packetTooLarge, "a packet of more than %d bytes", maxPacket)
	case in.version == 5 && header > 2 && p[header-1] == 0: // [MQTT5-1.5.5-1]
		return 0, 0, broken(malformed, "the length of a packet takes more bytes than it needs")
	}
	return header, body, nil
}
