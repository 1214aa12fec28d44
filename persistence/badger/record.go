package badger

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"time"

	"lorikeet/messages"
	"lorikeet/persistence"
)

// Every stored value is a record:
//
//	1 byte version | 4 bytes CRC-32C over the key and all other bytes of the record | 8 bytes number | payload
//
// The number is the Seq of a log entry; of every other record it is the number of the write that made it, which is its revision too.
const (
	recordVersion = 1
	recordHeader  = 1 + 4 + 8
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

var errRecord = errors.New("its checksum is wrong")

// newRecord gives room for a record whose payload is appended by the caller. finishRecord completes it.
func newRecord(size int) []byte { return make([]byte, recordHeader, recordHeader+size) }

func finishRecord(key, record []byte, number uint64) {
	record[0] = recordVersion
	binary.BigEndian.PutUint64(record[5:], number)
	binary.BigEndian.PutUint32(record[1:], checksum(key, record))
}

func checksum(key, record []byte) uint32 {
	sum := crc32.Update(0, castagnoli, key)
	sum = crc32.Update(sum, castagnoli, record[:1])
	return crc32.Update(sum, castagnoli, record[5:])
}

// parseRecord gives the number and the payload, which is part of record.
func parseRecord(key, record []byte) (number uint64, payload []byte, err error) {
	switch {
	case len(record) < recordHeader:
		return 0, nil, errors.New("it is cut short")
	case checksum(key, record) != binary.BigEndian.Uint32(record[1:]):
		return 0, nil, errRecord
	case record[0] != recordVersion:
		return 0, nil, errors.New("it was written by a newer version of Lorikeet")
	}
	return binary.BigEndian.Uint64(record[5:]), record[recordHeader:], nil
}

// encodeEvent makes the unfinished record of a log entry; finishRecord gives it its Seq.
func encodeEvent(e *messages.Event) []byte {
	return persistence.AppendEvent(newRecord(persistence.EventSize(e)), e)
}

// eventTime gives the Time of a log entry's payload alone.
func eventTime(payload []byte) time.Time {
	f := persistence.Fields{Rest: payload}
	return f.Time()
}

// logMeta is the record of an application's log: entries floor..last may be in the database, first..last are visible.
type logMeta struct {
	floor, first, last uint64
	bytes              uint64 // of the visible entries, keys included
	indexed            uint64 // entries from here on have a key in the index
}

func encodeMeta(m logMeta) []byte {
	b := newRecord(50)
	for _, v := range [...]uint64{m.floor, m.first, m.last, m.bytes, m.indexed} {
		b = binary.AppendUvarint(b, v)
	}
	return b
}

func decodeMeta(payload []byte) (logMeta, error) {
	r := persistence.Fields{Rest: payload}
	m := logMeta{floor: r.Uvarint(), first: r.Uvarint(), last: r.Uvarint(), bytes: r.Uvarint()}
	// A version without an index leaves indexed out, also where one that has it wrote before: what it appended has no keys.
	m.indexed = m.last + 1
	if !r.Short && len(r.Rest) > 0 {
		m.indexed = r.Uvarint()
	}
	if r.Short || m.floor == 0 || m.floor > m.first || m.first > m.last+1 || m.indexed == 0 || m.indexed > m.last+1 {
		return logMeta{}, errors.New("it makes no sense")
	}
	return m, nil
}

// state is the one record that is part of every transaction.
type state struct {
	store  uint64 // random, made once: tells that the high-water file belongs to this database
	writes uint64 // the number of the last write
	digest uint64 // over all tracked records, see tracked
}

func encodeState(s state) []byte {
	b := newRecord(24)
	b = binary.BigEndian.AppendUint64(b, s.store)
	b = binary.BigEndian.AppendUint64(b, s.writes)
	return binary.BigEndian.AppendUint64(b, s.digest)
}

func decodeState(payload []byte) (state, error) {
	if len(payload) != 24 {
		return state{}, errors.New("it has a wrong length")
	}
	return state{
		store:  binary.BigEndian.Uint64(payload),
		writes: binary.BigEndian.Uint64(payload[8:]),
		digest: binary.BigEndian.Uint64(payload[16:]),
	}, nil
}
