package jetstream

import (
	"encoding/binary"
	"errors"
	"time"

	"lorikeet/messages"
)

// The body of a message in a journal:
//
//	1 byte version | 1 byte flags | revision of the record, 0: the sequence of this message | record, if there is one | number of events | events
//
// Numbers are varints; the record and each event have their length before them. A journal subject of a device without a record at its end has
// none (DeleteSession writes such a message).
const (
	bodyVersion = 1
	flagRecord  = 1
)

// Seq of a log entry is the sequence of its message and its index among the events of the message.
const (
	indexBits = 13 // persistence.MaxWrites fit
	indexMask = 1<<indexBits - 1
)

var errNewer = errors.New("it was written by a newer version of Lorikeet")

// body is the content of a journal message.
type body struct {
	revision uint64 // of record, if it was carried over from an earlier message
	record   []byte // sealed; nil: none
	events   []messages.Event
}

func encodeBody(revision uint64, record []byte, events []messages.Event) []byte {
	size := 32 + len(record)
	for i := range events {
		size += 96 + len(events[i].ID) + len(events[i].Type) + len(events[i].JSON) + len(events[i].Device.ApplicationID) + len(events[i].Device.DeviceID)
	}
	b := make([]byte, 0, size)
	b = append(b, bodyVersion, 0)
	b = binary.AppendUvarint(b, revision)
	if record != nil {
		b[1] |= flagRecord
		b = appendBytes(b, record)
	}
	b = binary.AppendUvarint(b, uint64(len(events)))
	var scratch []byte
	for i := range events {
		scratch = appendEvent(scratch[:0], &events[i])
		b = appendBytes(b, scratch)
	}
	return b
}

// decodeBody is the inverse of encodeBody. What it gives shares memory with b.
func decodeBody(b []byte) (body, error) {
	r := reader{b: b}
	head := r.next(2)
	if r.short {
		return body{}, errors.New("it is cut short")
	}
	if head[0] != bodyVersion || head[1]&^flagRecord != 0 {
		return body{}, errNewer
	}
	c := body{revision: r.uvarint()}
	if head[1]&flagRecord != 0 {
		c.record = r.next(r.uvarint())
	}
	n := r.uvarint()
	if r.short || n > uint64(len(r.b)) {
		return body{}, errors.New("it is cut short")
	}
	for range n {
		e, err := decodeEvent(r.next(r.uvarint()))
		if err != nil || r.short {
			return body{}, errors.New("an event in it is cut short")
		}
		c.events = append(c.events, e)
	}
	return c, nil
}

func appendBytes(b, field []byte) []byte {
	return append(binary.AppendUvarint(b, uint64(len(field))), field...)
}

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func appendEvent(b []byte, e *messages.Event) []byte {
	b = binary.AppendVarint(b, e.Time.Unix())
	b = binary.AppendUvarint(b, uint64(e.Time.Nanosecond()))
	b = appendText(b, e.ID)
	b = appendText(b, e.Device.ApplicationID)
	b = appendText(b, e.Device.DeviceID)
	b = appendText(b, string(e.Type))
	b = append(b, e.DevEUI[:]...)
	b = append(b, e.JoinEUI[:]...)
	b = append(b, e.DevAddr[:]...)
	return append(b, e.JSON...)
}

func decodeEvent(b []byte) (messages.Event, error) {
	var e messages.Event
	r := reader{b: b}
	e.Time = r.time()
	e.ID = r.text()
	e.Device.ApplicationID = r.text()
	e.Device.DeviceID = r.text()
	e.Type = messages.EventType(r.text())
	copy(e.DevEUI[:], r.next(8))
	copy(e.JoinEUI[:], r.next(8))
	copy(e.DevAddr[:], r.next(4))
	if r.short {
		return messages.Event{}, errors.New("it is cut short")
	}
	e.JSON = r.b
	return e, nil
}

// reader takes fields off the front of b. After a field that is not there, short is set and all fields are zero.
type reader struct {
	b     []byte
	short bool
}

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.b, r.short = nil, true
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) next(n uint64) []byte {
	if n > uint64(len(r.b)) {
		r.b, r.short = nil, true
		return nil
	}
	f := r.b[:n:n]
	r.b = r.b[n:]
	return f
}

func (r *reader) text() string { return string(r.next(r.uvarint())) }

func (r *reader) time() time.Time {
	sec, n := binary.Varint(r.b)
	if n <= 0 {
		r.b, r.short = nil, true
		return time.Time{}
	}
	r.b = r.b[n:]
	nsec := r.uvarint()
	if r.short || nsec >= uint64(time.Second) {
		r.short = true
		return time.Time{}
	}
	return time.Unix(sec, int64(nsec)).UTC()
}
