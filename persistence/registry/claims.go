package registry

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"lorikeet/messages"
	v3 "lorikeet/messages/v3"
)

// ClaimingAllowed says whether devices of an application may be claimed by others; application_not_found.
func (r *Registry) ClaimingAllowed(ctx context.Context, app string) (bool, error) {
	record, err := get[applicationRecord](ctx, r, messages.KindApplication, app, applicationNotFound(app))
	return record.Claiming, err
}

// AllowClaiming says whether devices of an application may be claimed by others from now on; application_not_found.
func (r *Registry) AllowClaiming(ctx context.Context, app string, allowed bool) error {
	e := r.editApplication(app, updating(func(v *applicationRecord) error {
		if v.Deleting {
			return applicationDeleting(app)
		}
		v.Claiming = allowed
		return nil
	}, applicationNotFound(app)))
	e.application = app
	_, err := e.run(ctx, r)
	return err
}

// MoveDevice takes a device to another application, in one step: it is there under its new id and not under the old one, and its EUIs lead to the new
// one. change may run more than once; end_device_not_found, id_taken, application_not_found.
func (r *Registry) MoveDevice(ctx context.Context, from, to messages.DeviceID, change func(*v3.EndDevice) error) (v3.EndDevice, error) {
	if err := cmp.Or(messages.ValidateID(to.ApplicationID), messages.ValidateID(to.DeviceID)); err != nil {
		return v3.EndDevice{}, err
	}
	if from.ApplicationID == to.ApplicationID {
		return v3.EndDevice{}, messages.Errorf(messages.CodeConflict, "same_application", "the end device is in application %q already", to.ApplicationID)
	}
	// Always in one order: two moves in opposite directions and a deletion must not wait for each other.
	for _, app := range []string{min(from.ApplicationID, to.ApplicationID), max(from.ApplicationID, to.ApplicationID)} {
		leave, err := r.enter(ctx, app)
		if err != nil {
			return v3.EndDevice{}, err
		}
		defer leave()
	}
	return retry(ctx, func() (moved v3.EndDevice, err error) {
		writes, moved, err := r.move(ctx, from, to, change)
		if err != nil {
			return moved, err
		}
		if err := r.put(ctx, writes); err != nil {
			return moved, fmt.Errorf("move device %s: %w", from, err)
		}
		if r.follow != nil {
			err = r.confirm(ctx, place{kind: messages.KindDevice, id: to.UID(), application: to.ApplicationID}, writes)
		}
		return moved, err
	})
}

func (r *Registry) move(ctx context.Context, from, to messages.DeviceID, change func(*v3.EndDevice) error) (writes []messages.Write, moved v3.EndDevice, err error) {
	doc, err := r.store.GetDocument(ctx, messages.KindDevice, from.UID())
	if errors.Is(err, messages.ErrNotFound) {
		return nil, moved, deviceNotFound(from)
	} else if err != nil {
		return nil, moved, fmt.Errorf("read device %s: %w", from, err)
	}
	_, err = r.store.GetDocument(ctx, messages.KindDevice, to.UID())
	if err == nil {
		return nil, moved, taken("id_taken", "there is an end device %q in application %q already: choose another id", to.DeviceID, to.ApplicationID)
	} else if !errors.Is(err, messages.ErrNotFound) {
		return nil, moved, fmt.Errorf("read device %s: %w", to, err)
	}
	if moved, err = decode[v3.EndDevice](doc); err != nil {
		return nil, moved, err
	}
	old := moved
	old.IDs.DeviceID, old.IDs.ApplicationIDs.ApplicationID = to.DeviceID, to.ApplicationID
	origin := moved.IDs
	if err := change(&moved); err != nil {
		return nil, moved, err
	}
	moved.IDs.DeviceID, moved.IDs.ApplicationIDs.ApplicationID = to.DeviceID, to.ApplicationID
	if err := r.editDevice(to, nil).settle(old, &moved); err != nil {
		return nil, moved, err
	}
	moved.ClaimedFrom = &origin
	if back := old.ClaimedFrom; back != nil && back.DeviceID == to.DeviceID && back.ApplicationIDs.ApplicationID == to.ApplicationID {
		moved.ClaimedFrom = nil // it is where it was before
	}
	value, err := encode(moved)
	if err != nil {
		return nil, moved, err
	}
	writes = []messages.Write{
		{Kind: messages.KindDevice, ID: to.UID(), Value: value, Expect: true},
		{Kind: messages.KindDevice, ID: from.UID(), Expect: true, Revision: doc.Revision},
	}
	if pair, ok := pairOf(moved); ok {
		pointer, err := r.store.GetDocument(ctx, messages.KindDeviceEUI, pair.id())
		if err != nil && !errors.Is(err, messages.ErrNotFound) {
			return nil, moved, fmt.Errorf("read EUIs of %s: %w", from, err)
		}
		writes = append(writes, messages.Write{Kind: messages.KindDeviceEUI, ID: pair.id(), Value: []byte(to.UID()), Expect: true, Revision: pointer.Revision})
	}
	return writes, moved, nil
}
