package persistence

import (
	"encoding/hex"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"lorikeet/messages"
)

// What is on disks stays readable.
func TestStoredEventIsRead(t *testing.T) {
	t.Parallel()
	const stored = "80c8ceb40d" + "959aef3a" + "026964" + "03617070" + "03646576" + "077570" + "6c696e6b5f" + "0102030405060708" + "1112131415161718" + "21222324" + "7b7d"
	e := messages.Event{ID: "id", Device: messages.DeviceID{ApplicationID: "app", DeviceID: "dev"}, Type: "uplink_", Time: time.Unix(1_800_000_000, 123_456_789).UTC(),
		DevEUI: messages.EUI64{1, 2, 3, 4, 5, 6, 7, 8}, JoinEUI: messages.EUI64{0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18},
		DevAddr: messages.DevAddr{0x21, 0x22, 0x23, 0x24}, JSON: []byte("{}")}
	if got := hex.EncodeToString(AppendEvent(nil, &e)); got != stored {
		t.Errorf("written as\n%s, want\n%s", got, stored)
	}
	b, err := hex.DecodeString(stored)
	if err != nil {
		t.Fatal(err)
	}
	got, err := DecodeEvent(b)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(e, got); diff != "" {
		t.Error(diff)
	}
	for n := range len(b) - len(e.JSON) {
		if _, err := DecodeEvent(b[:n]); err == nil {
			t.Errorf("%d bytes of it are taken for an event", n)
		}
	}
	if room := EventSize(&e); room < len(b) {
		t.Errorf("%d bytes do not fit into %d", len(b), room)
	}
}
