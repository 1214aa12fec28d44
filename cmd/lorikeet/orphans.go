package main

import (
	"context"
	"log/slog"

	"lorikeet/messages"
	v3 "lorikeet/messages/v3"
)

// sessionForgetter drops the session of a device that is not in the registry.
type sessionForgetter interface {
	ForgetDevice(ctx context.Context, id messages.DeviceID) error
}

type deviceReader interface {
	Device(ctx context.Context, id messages.DeviceID) (v3.EndDevice, error)
}

type sessionScanner interface {
	ScanSessions(ctx context.Context, fn func(messages.DeviceID, []byte, messages.Revision) error) error
}

// forgetOrphans drops sessions without a device: REST deletes a session with its device, but an earlier run may have been killed in between.
// They are collected first, since a scan must not wait for writes.
func forgetOrphans(ctx context.Context, devices sessionForgetter, registry deviceReader, store sessionScanner, log *slog.Logger) {
	var orphans []messages.DeviceID
	err := store.ScanSessions(ctx, func(id messages.DeviceID, _ []byte, _ messages.Revision) error {
		if _, err := registry.Device(ctx, id); messages.CodeOf(err) == messages.CodeNotFound {
			orphans = append(orphans, id)
		}
		return ctx.Err()
	})
	if err != nil && ctx.Err() == nil {
		log.Error("search for sessions of deleted devices ended early", "err", err)
	}
	for _, id := range orphans {
		if err := devices.ForgetDevice(ctx, id); err != nil && ctx.Err() == nil {
			log.Error("session of a deleted device is left until the next start; its uplinks are dropped", "application_id", id.ApplicationID, "device_id", id.DeviceID, "err", err)
		}
	}
}
