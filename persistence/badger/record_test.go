package badger

import (
	"bytes"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"lorikeet/messages"
	"lorikeet/persistence"
)

func sampleEvent() messages.Event {
	return messages.Event{
		ID: "id", Device: messages.DeviceID{ApplicationID: "app", DeviceID: "dev"}, DevEUI: messages.EUI64{1}, JoinEUI: messages.EUI64{2},
		DevAddr: messages.DevAddr{3}, Type: messages.EventUplink, Time: time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC), JSON: []byte(`{}`),
	}
}

func TestRecordNoticesEveryFlippedBit(t *testing.T) {
	t.Parallel()
	e := sampleEvent()
	key, record := logKey("app", 7), encodeEvent(&e)
	finishRecord(key, record, 7)
	number, payload, err := parseRecord(key, record)
	if err != nil || number != 7 {
		t.Fatal(number, err)
	}
	got, err := persistence.DecodeEvent(payload)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(e, got); d != "" {
		t.Error(d)
	}
	if !eventTime(payload).Equal(e.Time) {
		t.Error("eventTime differs")
	}
	for i := range record {
		for bit := range 8 {
			bad := bytes.Clone(record)
			bad[i] ^= 1 << bit
			if _, _, err := parseRecord(key, bad); err == nil {
				t.Fatalf("byte %d bit %d flipped and not noticed", i, bit)
			}
		}
	}
	if _, _, err := parseRecord(logKey("app", 8), record); err == nil {
		t.Error("a record of another key was accepted")
	}
}

func FuzzParseRecord(f *testing.F) {
	e := sampleEvent()
	key := logKey("app", 7)
	for _, record := range [][]byte{encodeEvent(&e), encodeMeta(logMeta{1, 2, 3, 4, 2}), encodeState(state{1, 2, 3}), encodeCursor(9), nil} {
		if record != nil {
			finishRecord(key, record, 7)
		}
		f.Add(record)
	}
	f.Fuzz(func(t *testing.T, record []byte) {
		if number, payload, err := parseRecord(key, record); err == nil {
			again := append(newRecord(0), payload...)
			finishRecord(key, again, number)
			if !bytes.Equal(again, record) {
				t.Fatalf("%x is read like %x", record, again)
			}
		}
	})
}

// The payload's decoders see bytes whose checksum is right; they still must not panic or invent anything.
func FuzzDecodePayload(f *testing.F) {
	e := sampleEvent()
	for _, record := range [][]byte{encodeEvent(&e), encodeMeta(logMeta{1, 2, 3, 4, 2}), encodeState(state{1, 2, 3}), encodeCursor(9)} {
		f.Add(record[recordHeader:])
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		if e, err := persistence.DecodeEvent(payload); err == nil {
			again, err := persistence.DecodeEvent(encodeEvent(&e)[recordHeader:])
			if d := cmp.Diff(e, again); err != nil || d != "" {
				t.Fatal(err, d)
			}
		}
		if m, err := decodeMeta(payload); err == nil {
			if again, err := decodeMeta(encodeMeta(m)[recordHeader:]); err != nil || again != m {
				t.Fatal(again, err)
			}
		}
		if st, err := decodeState(payload); err == nil && !bytes.Equal(encodeState(st)[recordHeader:], payload) {
			t.Fatal("state differs")
		}
		if seq, err := decodeCursor(payload); err == nil && !bytes.Equal(encodeCursor(seq)[recordHeader:], payload) {
			t.Fatal("cursor differs")
		}
		_ = eventTime(payload)
	})
}

func markImage(first, second mark) []byte {
	b := make([]byte, markAllSize)
	copy(b, encodeMark(first))
	copy(b[markStride:], encodeMark(second))
	return b
}

func TestMarkSurvivesOneTornSlot(t *testing.T) {
	t.Parallel()
	image := markImage(mark{5, 10}, mark{5, 11})
	if m, slot, err := parseMark(image); err != nil || m != (mark{5, 11}) || slot != 1 {
		t.Fatal(m, slot, err)
	}
	for i := range image {
		bad := bytes.Clone(image)
		bad[i] ^= 0x10
		m, _, err := parseMark(bad)
		if err != nil || m.store != 5 || m.writes < 10 || m.writes > 11 {
			t.Fatalf("byte %d flipped: %+v, %v", i, m, err)
		}
	}
	image[3]++
	image[markStride+20]++
	if _, _, err := parseMark(image); err == nil {
		t.Error("both slots are damaged and it is read")
	}
}

func FuzzParseMark(f *testing.F) {
	f.Add(markImage(mark{1, 2}, mark{1, 3}))
	f.Add(encodeMark(mark{1, 2}))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		m, slot, err := parseMark(b)
		if err == nil && !bytes.Equal(b[slot*markStride:][:markSize], encodeMark(m)) {
			t.Fatalf("%+v is not in slot %d", m, slot)
		}
	})
}

func TestRingIsBounded(t *testing.T) {
	t.Parallel()
	var r ring
	for seq := uint64(1); seq <= 3*ringEntries; seq++ {
		r.push(messages.LogEntry{Seq: seq, Event: messages.Event{JSON: make([]byte, 100)}})
		first := uint64(1)
		if seq > ringEntries {
			first = seq - ringEntries + 1
		}
		if r.n > ringEntries || r.at(0).Seq != first {
			t.Fatalf("after %d: %d entries from %d", seq, r.n, r.at(0).Seq)
		}
	}
	if _, ok := r.from(2*ringEntries, 10); ok {
		t.Error("gives what it has not")
	}
	got, ok := r.from(3*ringEntries-5, 100)
	if !ok || len(got) != 6 || got[0].Seq != 3*ringEntries-5 || got[5].Seq != 3*ringEntries {
		t.Errorf("the end of the ring is %d entries, %v", len(got), ok)
	}
	for seq := uint64(3*ringEntries + 1); seq < 3*ringEntries+10; seq++ {
		r.push(messages.LogEntry{Seq: seq, Event: messages.Event{JSON: make([]byte, ringBytes/2)}})
		if r.bytes > ringBytes+entryBytes(r.at(r.n-1)) {
			t.Fatalf("%d bytes in the ring", r.bytes)
		}
	}
	if r.n > 2 {
		t.Errorf("%d large entries in the ring", r.n)
	}
}
