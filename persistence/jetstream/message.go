package jetstream

import (
	"encoding/binary"
	"errors"

	"lorikeet/messages"
	"lorikeet/persistence"
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
		size += binary.MaxVarintLen32 + persistence.EventSize(&events[i])
	}
	b := make([]byte, 0, size)
	b = append(b, bodyVersion, 0)
	b = binary.AppendUvarint(b, revision)
	if record != nil {
		b[1] |= flagRecord
		b = persistence.AppendField(b, record)
	}
	b = binary.AppendUvarint(b, uint64(len(events)))
	var scratch []byte
	for i := range events {
		scratch = persistence.AppendEvent(scratch[:0], &events[i])
		b = persistence.AppendField(b, scratch)
	}
	return b
}

// decodeBody is the inverse of encodeBody. What it gives shares memory with b.
func decodeBody(b []byte) (body, error) {
	r := persistence.Fields{Rest: b}
	head := r.Next(2)
	if r.Short {
		return body{}, errors.New("it is cut short")
	}
	if head[0] != bodyVersion || head[1]&^flagRecord != 0 {
		return body{}, errNewer
	}
	c := body{revision: r.Uvarint()}
	if head[1]&flagRecord != 0 {
		c.record = r.Next(r.Uvarint())
	}
	n := r.Uvarint()
	if r.Short || n > uint64(len(r.Rest)) {
		return body{}, errors.New("it is cut short")
	}
	for range n {
		e, err := persistence.DecodeEvent(r.Next(r.Uvarint()))
		if err != nil || r.Short {
			return body{}, errors.New("an event in it is cut short")
		}
		c.events = append(c.events, e)
	}
	return c, nil
}
