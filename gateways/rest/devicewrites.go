package rest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"slices"

	"lorikeet/messages"
	v3 "lorikeet/messages/v3"
)

// createDevice takes a device with all its fields at once: those of the four views, and a session.
func (s *Server) createDevice(c *call) error {
	req, err := c.deviceRequest(false)
	if err != nil {
		return err
	}
	ctx, cancel := c.steadfast()
	defer cancel()
	id := req.value.DeviceID()
	defer s.locks.lock(id)()
	dev, err := s.create(ctx, req)
	if err != nil {
		return err
	}
	return s.answerWrite(ctx, c, dev, req)
}

// deviceRequest reads the body of a write, with the ids that the path gives. A creation in the IS view has no field mask: one that is there is not
// looked at.
func (c *call) deviceRequest(masked bool) (request[v3.EndDevice], error) {
	req, err := decodeRequest[v3.EndDevice](c, "end_device")
	if err != nil {
		return req, err
	}
	if !masked {
		req.paths = nil
	}
	req.value.IDs.ApplicationIDs.ApplicationID = c.app()
	if id := c.Param("device_id"); id != "" {
		req.value.IDs.DeviceID = id
	}
	if err := messages.ValidateID(req.value.IDs.DeviceID); err != nil {
		return req, messages.Invalid("invalid_id", "end_device.ids.device_id: %w", err)
	}
	if err := c.mayWrite(req); err != nil {
		return req, err
	}
	ids := req.value.IDs
	req, err = c.server.unwrapKeys(c, req)
	req.value.IDs = ids
	return req, err
}

// create registers a device and sets its session. A session record that a crash left behind under this id is dropped first: the new device must not
// inherit it. If the session can't be set, the device is taken away again, so that the whole call can be repeated.
func (s *Server) create(ctx context.Context, req request[v3.EndDevice]) (v3.EndDevice, error) {
	id := req.value.DeviceID()
	session, err := req.session(nil)
	if err != nil {
		return v3.EndDevice{}, err
	}
	stored, err := s.cfg.Registry.Device(ctx, id)
	switch {
	case err == nil && session != nil:
		return s.resumeCreate(ctx, stored, req.value, *session)
	case err != nil && messages.CodeOf(err) != messages.CodeNotFound:
		return v3.EndDevice{}, err
	case err != nil && s.cfg.Registry.ApplicationExists(id.ApplicationID):
		if err := s.cfg.Devices.DeleteDevice(ctx, id); err != nil {
			return v3.EndDevice{}, fmt.Errorf("drop an old session of %s: %w", id, err)
		}
	}
	dev, err := s.cfg.Registry.CreateDevice(ctx, req.value)
	if err != nil || session == nil {
		return dev, err
	}
	if err := s.setSession(ctx, dev, *session); err != nil {
		s.undoCreate(id)
		return v3.EndDevice{}, err
	}
	return dev, nil
}

// resumeCreate finishes a creation that a crash cut off between its two writes. Any other device that exists is a conflict.
func (s *Server) resumeCreate(ctx context.Context, stored, wanted v3.EndDevice, session v3.Session) (v3.EndDevice, error) {
	state, _, err := s.state(ctx, stored.DeviceID())
	if err != nil {
		return v3.EndDevice{}, err
	}
	same, err := alreadyHas(stored, wanted)
	if err != nil {
		return v3.EndDevice{}, err
	}
	if !same || state.Session != nil {
		return s.cfg.Registry.CreateDevice(ctx, wanted) // says what is taken
	}
	return stored, s.setSession(ctx, stored, session)
}

// alreadyHas says whether stored has everything that wanted has, its session aside.
func alreadyHas(stored, wanted v3.EndDevice) (bool, error) {
	wanted.Session, wanted.PendingSession, wanted.CreatedAt, wanted.UpdatedAt, wanted.IDs.DevAddr = nil, nil, nil, nil, nil
	before, err := toTree(stored)
	if err != nil {
		return false, err
	}
	after, err := toTree(stored)
	if err != nil {
		return false, err
	}
	fields, err := toTree(wanted)
	if err != nil {
		return false, err
	}
	merge(after, fields)
	return reflect.DeepEqual(before, after), nil
}

// setSession asks the device actor. An actor needs the settings of the NS view to make sense of a session.
func (s *Server) setSession(ctx context.Context, dev v3.EndDevice, session v3.Session) error {
	if dev.FrequencyPlanID == "" || dev.LoRaWANVersion == "" {
		return messages.Errorf(messages.CodePrecondition, "device_settings",
			"the session of %s can't be set before frequency_plan_id and lorawan_version: set these first, or in the same request", dev.DeviceID())
	}
	if err := s.cfg.Devices.SetDeviceSession(ctx, dev.DeviceID(), session); err != nil {
		return fmt.Errorf("set the session of %s: %w", dev.DeviceID(), err)
	}
	return nil
}

func (s *Server) undoCreate(id messages.DeviceID) {
	ctx, cancel := context.WithTimeout(context.Background(), writeTime)
	defer cancel()
	if err := s.remove(ctx, id); err != nil {
		s.log.LogAttrs(ctx, slog.LevelWarn, "a device without its session is left; delete it", slog.String("application_id", id.ApplicationID),
			slog.String("device_id", id.DeviceID), slog.Any("err", err))
	}
}

// updateIS changes a device that exists.
func (s *Server) updateIS(c *call) error { return s.write(c, false) }

// upsert changes a device, or makes one: NS, AS and JS have no device before their part is written, and a client may begin with any.
func (s *Server) upsert(c *call) error { return s.write(c, true) }

func (s *Server) write(c *call, mayCreate bool) error {
	req, err := c.deviceRequest(true)
	if err != nil {
		return err
	}
	ctx, cancel := c.steadfast()
	defer cancel()
	id := req.value.DeviceID()
	defer s.locks.lock(id)()
	dev, err := s.update(ctx, id, req)
	if notFound := deviceNotFound(id); mayCreate && errors.Is(err, notFound) {
		if req, err = onlyNamed(req); err == nil {
			dev, err = s.create(ctx, req)
		}
	}
	if err != nil {
		return err
	}
	return s.answerWrite(ctx, c, dev, req)
}

// answerWrite shows what was written.
func (s *Server) answerWrite(ctx context.Context, c *call, dev v3.EndDevice, req request[v3.EndDevice]) error {
	if slices.ContainsFunc(stateFields, req.names) {
		if err := s.addState(ctx, &dev, stateFields); err != nil {
			return err
		}
	}
	return written(c, dev, req.paths, c.hideFrom())
}

// onlyNamed gives the request with a value of only the ids and the fields that its mask names.
func onlyNamed(r request[v3.EndDevice]) (request[v3.EndDevice], error) {
	if r.paths == nil {
		return r, nil
	}
	t := tree{}
	apply(t, r.fields, r.paths)
	dev, err := fromTree[v3.EndDevice](t)
	dev.IDs = r.value.IDs
	r.value = dev
	return r, err
}

// update writes the registry first, since a session needs the settings that may come with it. A repeated call brings both together if the second fails.
func (s *Server) update(ctx context.Context, id messages.DeviceID, req request[v3.EndDevice]) (v3.EndDevice, error) {
	if _, err := req.session(nil); err != nil { // refused before anything is written
		return v3.EndDevice{}, err
	}
	state, known := v3.EndDevice{}, false
	if req.names("session") {
		var err error
		if state, known, err = s.state(ctx, id); err != nil {
			return v3.EndDevice{}, err
		}
	}
	change := req.change()
	dev, err := s.cfg.Registry.UpdateDevice(ctx, id, func(d *v3.EndDevice) error {
		ids := d.IDs
		if err := change(d); err != nil {
			return err
		}
		if err := refuseEcho(req, *d, state); err != nil {
			return err
		}
		d.IDs = ids // the path wins; EUIs may be set once
		if req.value.IDs.DevEUI != nil {
			d.IDs.DevEUI = req.value.IDs.DevEUI
		}
		if req.value.IDs.JoinEUI != nil {
			d.IDs.JoinEUI = req.value.IDs.JoinEUI
		}
		return nil
	})
	if err != nil || !req.names("session") {
		return dev, err
	}
	if !known { // the settings came with this request
		if state, known, err = s.state(ctx, id); err != nil {
			return dev, err
		}
	}
	session, err := req.session(state.Session)
	switch {
	case err != nil:
		return dev, err
	case session == nil:
		return dev, s.endSession(ctx, dev, state, known)
	}
	return dev, s.setSession(ctx, dev, *session)
}

// refuseEcho refuses a device that was read, changed and written back whole, if it has joined again in between: the session in the body is of the past.
func refuseEcho(req request[v3.EndDevice], dev, state v3.EndDevice) error {
	given, now := req.value.Session, state.Session
	if req.paths != nil || !dev.SupportsJoin || given == nil || now == nil || len(given.Keys.SessionKeyID) == 0 || bytes.Equal(given.Keys.SessionKeyID, now.Keys.SessionKeyID) {
		return nil
	}
	return messages.Errorf(messages.CodeConflict, "session_changed", "the device has joined since this session was read: leave session out, or name it in the field mask to replace the new one")
}

// endSession ends the activation. What a device that joins must never repeat, its nonces, stays: if the state is not known, the record is left alone,
// and no uplink is taken while the settings are not complete.
func (s *Server) endSession(ctx context.Context, dev, state v3.EndDevice, known bool) error {
	mayJoin := dev.IDs.JoinEUI != nil && dev.IDs.DevEUI != nil
	switch {
	case !known && (mayJoin || dev.SupportsJoin):
		return nil
	case dev.SupportsJoin || state.LastJoinNonce != 0:
		return s.cfg.Devices.ResetDevice(ctx, dev.DeviceID())
	}
	return s.cfg.Devices.DeleteDevice(ctx, dev.DeviceID())
}

// remove deletes a device: the session first. After a crash in between the device is still registered, without a session, and can be deleted again.
// The other way round a session would be left that takes uplinks and that a new device of this id inherits. The second time is for a device that joined
// in between.
func (s *Server) remove(ctx context.Context, id messages.DeviceID) error {
	if err := s.cfg.Devices.DeleteDevice(ctx, id); err != nil {
		return fmt.Errorf("delete the session of %s: %w", id, err)
	}
	if err := s.cfg.Registry.DeleteDevice(ctx, id); err != nil {
		return err
	}
	if err := s.cfg.Devices.DeleteDevice(ctx, id); err != nil {
		return fmt.Errorf("delete the session of %s: %w", id, err)
	}
	return nil
}

func (s *Server) deleteDevice(c *call) error {
	ctx, cancel := c.steadfast()
	defer cancel()
	defer s.locks.lock(c.device())()
	if err := s.remove(ctx, c.device()); err != nil {
		return err
	}
	return c.empty()
}

// delete takes away the part of a device that the view owns. The device itself stays until it is deleted in the IS view, and so do its nonces, in case
// the same root key is set again. There is nothing to take away of a device that is not there: clients that delete it in the IS view first, and then in the
// others, which in The Things Stack still have their parts, are not told of a failure.
func (v view) delete(s *Server, c *call) error {
	if err := v.clear(s, c, c.device()); err != nil && !(errors.Is(err, deviceNotFound(c.device())) && s.cfg.Registry.ApplicationExists(c.app())) {
		return err
	}
	return c.empty()
}

func (v view) clear(s *Server, c *call, id messages.DeviceID) error {
	ctx, cancel := c.steadfast()
	defer cancel()
	defer s.locks.lock(id)()
	dev, err := s.cfg.Registry.Device(ctx, id)
	if err != nil {
		return err
	}
	if v.drops {
		state, known, err := s.state(ctx, id)
		if err != nil {
			return err
		}
		if err := s.endSession(ctx, dev, state, known); err != nil {
			return err
		}
	}
	none := request[v3.EndDevice]{fields: tree{}, paths: v.fields}
	_, err = s.cfg.Registry.UpdateDevice(ctx, id, none.change())
	return err
}

func (s *Server) resetDevice(c *call) error {
	ctx, cancel := c.steadfast()
	defer cancel()
	defer s.locks.lock(c.device())()
	dev, err := s.cfg.Registry.Device(ctx, c.device())
	if err != nil {
		return err
	}
	if err := s.cfg.Devices.ResetDevice(ctx, c.device()); err != nil {
		return err
	}
	return written(c, dev, []string{}, c.hideFrom())
}
