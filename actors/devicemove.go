package actors

import (
	"context"
	"time"

	"lorikeet/actors/device"
	"lorikeet/messages"
)

// movePatience is how long a device refuses work after its record was handed over. If it is still there after that, the move has failed.
const movePatience = 30 * time.Second

// Messages of a move, in which a device gets another id with all that it is. In between its record is there twice, so the old device takes no frames
// and sends none from before the copy on: no FCntDown is used twice.
type (
	handOver struct{ to messages.DeviceID } // to the old device: copy the record
	keepOn   struct{}                       // to the old device: the move failed
	takeOver struct{}                       // to the new device: the record is yours
)

func errMoving(id messages.DeviceID) error {
	return messages.Errorf(messages.CodeUnavailable, "device_moving", "device %s is being moved: try again", id)
}

// handOver copies the record as it is stored, whether or not the settings of the device are complete. It may be asked again: a copy that an earlier
// try left is replaced, unless the new device is registered, and so in use.
func (d *Device) handOver(to messages.DeviceID) error {
	ctx, cancel := d.context()
	defer cancel()
	if _, err := d.cfg.Registry.Device(ctx, to); messages.CodeOf(err) != messages.CodeNotFound {
		if err == nil {
			err = messages.Errorf(messages.CodeConflict, "id_taken", "there is an end device %s already: choose another id", to)
		}
		return err
	}
	d.closeAll()
	d.movingUntil = d.cfg.Clock().Add(movePatience)
	if err := d.copyRecord(ctx, to); err != nil {
		d.movingUntil = time.Time{}
		return err
	}
	return nil
}

func (d *Device) copyRecord(ctx context.Context, to messages.DeviceID) error {
	record, _, err := d.cfg.Store.LoadSession(ctx, d.id)
	if err != nil {
		return err
	}
	_, left, err := d.cfg.Store.LoadSession(ctx, to)
	if err != nil {
		return err
	}
	if record == nil {
		if left != 0 {
			return d.cfg.Store.DeleteSession(ctx, to)
		}
		return nil
	}
	state, err := device.Unmarshal(record)
	if err != nil {
		return err
	}
	if entries := indexEntries(state); len(entries) > 0 {
		if err := d.cfg.Index.Prepare(ctx, to, entries...); err != nil {
			return err
		}
	}
	_, err = d.cfg.Store.Commit(ctx, messages.Commit{Device: to, Expected: left, Session: record})
	return err
}

// takeOver reads the record and makes its sessions findable.
func (d *Device) takeOver() error {
	d.loaded, d.profile = false, nil
	if err := d.ready(); err != nil {
		return err
	}
	ctx, cancel := d.context()
	defer cancel()
	entries := indexEntries(d.state)
	if len(entries) > 0 {
		if err := d.cfg.Index.Prepare(ctx, d.id, entries...); err != nil {
			return err
		}
	}
	d.cfg.Index.Set(d.id, entries...)
	return nil
}

// MoveDevice gives a device another id, with its session, counters, nonces and queue. register changes the registry: from one moment to the next the
// device is there under its new id and not under the old one. If that fails, the device goes on under the old id.
//
// After a crash before register the copy is a record without a device, after it the old record is: both are dropped like those of deleted devices.
func (d *Devices) MoveDevice(ctx context.Context, from, to messages.DeviceID, register func() error) error {
	if _, err := d.router.Ask(ctx, from, handOver{to}); err != nil {
		return err
	}
	if err := register(); err != nil {
		if _, found := d.cfg.Registry.Device(ctx, to); messages.CodeOf(found) == messages.CodeNotFound { // for certain, it was not done
			_, _ = d.router.Ask(ctx, to, deleteState{})
			_, _ = d.router.Ask(ctx, from, keepOn{})
			return err
		} else if found != nil {
			return err
		}
	}
	if _, err := d.router.Ask(ctx, from, deleteState{}); err != nil {
		d.cfg.Log.Warn("the old record of a device that was moved is left", "application_id", from.ApplicationID, "device_id", from.DeviceID, "err", err)
	}
	_, err := d.router.Ask(ctx, to, takeOver{})
	if messages.CodeOf(err) == messages.CodePrecondition { // its settings are not complete; it has no use for a session
		return nil
	}
	return err
}
