package main

import (
	"context"
	"log/slog"
	"testing"

	"lorikeet/messages"
	v3 "lorikeet/messages/v3"
)

// leftovers is a store with sessions, a registry without some of their devices, and records what is to be forgotten.
type leftovers struct {
	sessions, registered, forgotten []messages.DeviceID
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

func (l *leftovers) ForgetDevice(_ context.Context, id messages.DeviceID) error {
	l.forgotten = append(l.forgotten, id)
	return nil
}

func TestSessionsWithoutADeviceAreDeleted(t *testing.T) {
	kept, orphan := messages.DeviceID{ApplicationID: "a", DeviceID: "kept"}, messages.DeviceID{ApplicationID: "a", DeviceID: "orphan"}
	l := &leftovers{sessions: []messages.DeviceID{kept, orphan}, registered: []messages.DeviceID{kept}}
	forgetOrphans(t.Context(), l, l, l, slog.New(slog.DiscardHandler))
	if len(l.forgotten) != 1 || l.forgotten[0] != orphan {
		t.Fatalf("forgot %v, want only %s", l.forgotten, orphan)
	}
}
