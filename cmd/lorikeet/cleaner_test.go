package main

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"lorikeet/messages"
	v3 "lorikeet/messages/v3"
)

// leftovers is a store with sessions, a registry without some of their devices, and a deleter that records.
type leftovers struct {
	sessions, registered []messages.DeviceID
	deleted              chan messages.DeviceID
}

func (l *leftovers) ScanSessions(_ context.Context, fn func(messages.DeviceID, []byte, messages.Revision) error) error {
	for _, id := range l.sessions {
		if err := fn(id, nil, 1); err != nil {
			return err
		}
	}
	return nil
}

func (l *leftovers) Device(_ context.Context, id messages.DeviceID) (v3.EndDevice, error) {
	for _, known := range l.registered {
		if known == id {
			return v3.EndDevice{}, nil
		}
	}
	return v3.EndDevice{}, messages.NotFound("end_device_not_found", "not found")
}

func (l *leftovers) DeleteDevice(_ context.Context, id messages.DeviceID) error {
	l.deleted <- id
	return nil
}

func TestSessionsWithoutADeviceAreDeleted(t *testing.T) {
	kept, orphan, gone := messages.DeviceID{ApplicationID: "a", DeviceID: "kept"}, messages.DeviceID{ApplicationID: "a", DeviceID: "orphan"}, messages.DeviceID{ApplicationID: "a", DeviceID: "gone"}
	l := &leftovers{sessions: []messages.DeviceID{kept, orphan}, registered: []messages.DeviceID{kept}, deleted: make(chan messages.DeviceID, 10)}
	c := newCleaner(l, l, l, slog.New(slog.DiscardHandler))
	c.start(t.Context())
	want := func(id messages.DeviceID) {
		t.Helper()
		select {
		case got := <-l.deleted:
			if got != id {
				t.Fatalf("deleted %s, want %s", got, id)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("session of %s stays", id)
		}
	}
	want(orphan)
	c.changed(messages.Change{Kind: messages.KindDevice, ID: kept.UID(), Deleted: true}) // but there is one of that name again
	c.changed(messages.Change{Kind: messages.KindDevice, ID: gone.UID()})                // not deleted
	c.changed(messages.Change{Kind: messages.KindDevice, ID: gone.UID(), Deleted: true})
	want(gone)
	c.stop()
	if len(l.deleted) > 0 {
		t.Fatalf("deleted also %s", <-l.deleted)
	}
}
