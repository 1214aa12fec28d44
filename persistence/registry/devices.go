package registry

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"

	"lorikeet/messages"
	v3 "lorikeet/messages/v3"
)

func deviceNotFound(id messages.DeviceID) error {
	return messages.NotFound("end_device_not_found", "end device %q not found in application %q", shorten(id.DeviceID), shorten(id.ApplicationID))
}

// pairOf gives the EUI pair; ok is false for a device that lacks one of both, which then can't join.
func pairOf(d v3.EndDevice) (p euiPair, ok bool) {
	if d.IDs.JoinEUI == nil || d.IDs.DevEUI == nil {
		return p, false
	}
	return euiPair{join: *d.IDs.JoinEUI, dev: *d.IDs.DevEUI}, true
}

// Device gives one; end_device_not_found.
func (r *Registry) Device(ctx context.Context, id messages.DeviceID) (v3.EndDevice, error) {
	return get[v3.EndDevice](ctx, r, messages.KindDevice, id.UID(), deviceNotFound(id))
}

// Devices of an application, sorted by id; application_not_found.
func (r *Registry) Devices(ctx context.Context, applicationID string) ([]v3.EndDevice, error) {
	return listIn[v3.EndDevice](ctx, r, messages.KindDevice, applicationID)
}

// DeviceByEUI finds the device of a join-request. It asks memory only.
func (r *Registry) DeviceByEUI(joinEUI, devEUI messages.EUI64) (messages.DeviceID, bool) {
	r.index.mutex.RLock()
	uid, ok := r.index.devices[euiPair{join: joinEUI, dev: devEUI}]
	r.index.mutex.RUnlock()
	if !ok {
		return messages.DeviceID{}, false
	}
	id, err := messages.ParseUID(uid)
	return id, err == nil
}

// CreateDevice gives what was stored, which is without session and nonces; id_taken, end_device_euis_taken, application_not_found.
func (r *Registry) CreateDevice(ctx context.Context, device v3.EndDevice) (v3.EndDevice, error) {
	id := device.DeviceID()
	for _, s := range []string{id.ApplicationID, id.DeviceID} {
		if err := messages.ValidateID(s); err != nil {
			return v3.EndDevice{}, err
		}
	}
	if err := r.need(ctx, id.ApplicationID); err != nil {
		return v3.EndDevice{}, err
	}
	return r.editDevice(id, creating(device, taken("id_taken", "there is an end device %q in application %q already: choose another id", id.DeviceID, id.ApplicationID))).run(ctx, r)
}

// UpdateDevice changes one by compare-and-set: change may run more than once. ids and created_at stay, but a JoinEUI or DevEUI
// that was not set may be set; end_device_not_found, end_device_euis_taken.
func (r *Registry) UpdateDevice(ctx context.Context, id messages.DeviceID, change func(*v3.EndDevice) error) (v3.EndDevice, error) {
	return r.editDevice(id, updating(change, deviceNotFound(id))).run(ctx, r)
}

func (r *Registry) editDevice(id messages.DeviceID, change func(bool, *v3.EndDevice) error) edit[v3.EndDevice] {
	return edit[v3.EndDevice]{
		place:  place{kind: messages.KindDevice, id: id.UID(), application: id.ApplicationID},
		change: change,
		settle: func(old v3.EndDevice, v *v3.EndDevice) error {
			if err := cmp.Or(
				keepID("ids.device_id", &v.IDs.DeviceID, id.DeviceID),
				keepID("ids.application_ids.application_id", &v.IDs.ApplicationIDs.ApplicationID, id.ApplicationID),
				keepEUI("ids.dev_eui", &v.IDs.DevEUI, old.IDs.DevEUI),
				keepEUI("ids.join_eui", &v.IDs.JoinEUI, old.IDs.JoinEUI),
			); err != nil {
				return err
			}
			// The device actor owns these.
			v.IDs.DevAddr, v.Session, v.PendingSession = nil, nil, nil
			v.LastDevNonce, v.UsedDevNonces, v.LastJoinNonce = 0, nil, 0
			v.BatteryPercentage, v.DownlinkMargin, v.PowerState, v.LastDevStatusReceivedAt = nil, 0, "", nil
			v.ClaimedFrom = old.ClaimedFrom
			v.CreatedAt, v.UpdatedAt = r.stamps(old.CreatedAt)
			return validateDevice(v)
		},
		also: func(ctx context.Context, old, v v3.EndDevice) ([]messages.Write, error) {
			pair, ok := pairOf(v)
			if _, had := pairOf(old); !ok || had {
				return nil, nil
			}
			claim, err := r.claim(ctx, messages.KindDeviceEUI, pair.id(), id.UID(), messages.KindDevice, taken("end_device_euis_taken",
				"an end device with JoinEUI %s and DevEUI %s is registered already: check both EUIs, or delete the other device", pair.join, pair.dev))
			return []messages.Write{claim}, err
		},
	}
}

// claim is the write that makes id point to owner, a document of ownerKind: refused with taken if it points to another one
// that exists. A pointer to nothing, left by a damaged document, is taken over.
func (r *Registry) claim(ctx context.Context, kind messages.Kind, id, owner string, ownerKind messages.Kind, taken error) (messages.Write, error) {
	w := messages.Write{Kind: kind, ID: id, Value: []byte(owner), Expect: true}
	doc, err := r.store.GetDocument(ctx, kind, id)
	if errors.Is(err, messages.ErrNotFound) {
		return w, nil
	}
	if err != nil {
		return w, fmt.Errorf("read %s %s: %w", kind, id, err)
	}
	w.Revision = doc.Revision
	if string(doc.Value) == owner {
		return w, nil
	}
	_, err = r.store.GetDocument(ctx, ownerKind, string(doc.Value))
	switch {
	case errors.Is(err, messages.ErrNotFound):
		return w, nil
	case err != nil:
		return w, fmt.Errorf("read %s %s: %w", ownerKind, doc.Value, err)
	}
	return w, taken
}

// DeleteDevice deletes what the registry knows of it; end_device_not_found.
func (r *Registry) DeleteDevice(ctx context.Context, id messages.DeviceID) error {
	uid := id.UID()
	_, err := retry(ctx, func() (struct{}, error) {
		doc, err := r.store.GetDocument(ctx, messages.KindDevice, uid)
		switch {
		case errors.Is(err, messages.ErrNotFound):
			return struct{}{}, deviceNotFound(id)
		case err != nil:
			return struct{}{}, fmt.Errorf("read device %s: %w", uid, err)
		}
		writes := []messages.Write{{Kind: messages.KindDevice, ID: uid, Expect: true, Revision: doc.Revision}}
		device, err := decode[v3.EndDevice](doc)
		if err != nil {
			r.log.LogAttrs(ctx, slog.LevelWarn, "damaged device deleted", slog.String("device", uid))
		} else if pair, ok := pairOf(device); ok {
			writes = append(writes, messages.Write{Kind: messages.KindDeviceEUI, ID: pair.id()})
		}
		return struct{}{}, r.write(ctx, place{kind: messages.KindDevice, id: uid, application: id.ApplicationID}, writes)
	})
	return err
}

// listIn lists what lives in an application.
func listIn[T any](ctx context.Context, r *Registry, kind messages.Kind, applicationID string) ([]T, error) {
	if err := r.need(ctx, applicationID); err != nil {
		return nil, err
	}
	return list[T](ctx, r, kind, applicationID+".")
}
