package persistence

import (
	"encoding/binary"
	"errors"
	"time"

	"lorikeet/messages"
)

// AppendEvent appends the form in which stores keep an event. It must not change: it is on disks.
//
//	seconds (varint) and nanoseconds of Time | ID | application | device | type | DevEUI | JoinEUI | DevAddr | JSON
//
// Texts have their length before them, the JSON is the rest.
func AppendEvent(b []byte, e *messages.Event) []byte {
	b = binary.AppendVarint(b, e.Time.Unix())
	b = binary.AppendUvarint(b, uint64(e.Time.Nanosecond()))
	b = AppendField(b, e.ID)
	b = AppendField(b, e.Device.ApplicationID)
	b = AppendField(b, e.Device.DeviceID)
	b = AppendField(b, string(e.Type))
	b = append(b, e.DevEUI[:]...)
	b = append(b, e.JoinEUI[:]...)
	b = append(b, e.DevAddr[:]...)
	return append(b, e.JSON...)
}

// EventSize is room enough for what AppendEvent appends.
func EventSize(e *messages.Event) int {
	return 64 + len(e.ID) + len(e.Device.ApplicationID) + len(e.Device.DeviceID) + len(e.Type) + len(e.JSON)
}

// DecodeEvent is the inverse of AppendEvent. JSON is part of b.
func DecodeEvent(b []byte) (messages.Event, error) {
	var e messages.Event
	f := Fields{Rest: b}
	e.Time = f.Time()
	e.ID = f.Text()
	e.Device.ApplicationID = f.Text()
	e.Device.DeviceID = f.Text()
	e.Type = messages.EventType(f.Text())
	copy(e.DevEUI[:], f.Next(8))
	copy(e.JoinEUI[:], f.Next(8))
	copy(e.DevAddr[:], f.Next(4))
	if f.Short {
		return messages.Event{}, errors.New("it is cut short")
	}
	e.JSON = f.Rest
	return e, nil
}

// AppendField appends a text or bytes with their length before them.
func AppendField[T string | []byte](b []byte, field T) []byte {
	return append(binary.AppendUvarint(b, uint64(len(field))), field...)
}

// Fields takes fields off the front of Rest. After a field that is not there, Short is set and all fields are zero.
type Fields struct {
	Rest  []byte
	Short bool
}

// Uvarint is a number.
func (f *Fields) Uvarint() uint64 {
	v, n := binary.Uvarint(f.Rest)
	if n <= 0 {
		f.Rest, f.Short = nil, true
		return 0
	}
	f.Rest = f.Rest[n:]
	return v
}

// Next is a field of n bytes.
func (f *Fields) Next(n uint64) []byte {
	if n > uint64(len(f.Rest)) {
		f.Rest, f.Short = nil, true
		return nil
	}
	field := f.Rest[:n:n]
	f.Rest = f.Rest[n:]
	return field
}

// Text is a text with its length before it.
func (f *Fields) Text() string { return string(f.Next(f.Uvarint())) }

// Time is an instant, with which an event begins.
func (f *Fields) Time() time.Time {
	sec, n := binary.Varint(f.Rest)
	if n <= 0 {
		f.Rest, f.Short = nil, true
		return time.Time{}
	}
	f.Rest = f.Rest[n:]
	nsec := f.Uvarint()
	if f.Short || nsec >= uint64(time.Second) {
		f.Short = true
		return time.Time{}
	}
	return time.Unix(sec, int64(nsec)).UTC()
}
