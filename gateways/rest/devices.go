package rest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"sync"

	"lorikeet/messages"
	v3 "lorikeet/messages/v3"
)

// locks let the writes of one device follow each other (a TTS client writes a device in four calls, some at once), and the deletion of an application
// wait for writes of its devices, so that none leaves a session behind.
type locks struct {
	seed         maphash.Seed
	devices      [256]sync.Mutex
	applications [1024]sync.RWMutex
}

func (l *locks) application(id string) *sync.RWMutex {
	return &l.applications[maphash.String(l.seed, id)%uint64(len(l.applications))]
}

func (l *locks) lock(id messages.DeviceID) (unlock func()) {
	app, device := l.application(id.ApplicationID), &l.devices[maphash.String(l.seed, id.UID())%uint64(len(l.devices))]
	app.RLock()
	device.Lock()
	return func() {
		device.Unlock()
		app.RUnlock()
	}
}

var deviceOrders = orders[v3.EndDevice]{
	"device_id":    func(d *v3.EndDevice) string { return d.IDs.DeviceID },
	"dev_eui":      func(d *v3.EndDevice) string { return euiText(d.IDs.DevEUI) },
	"join_eui":     func(d *v3.EndDevice) string { return euiText(d.IDs.JoinEUI) },
	"name":         func(d *v3.EndDevice) string { return d.Name },
	"description":  func(d *v3.EndDevice) string { return d.Description },
	"created_at":   func(d *v3.EndDevice) string { return timeText(d.CreatedAt) },
	"updated_at":   func(d *v3.EndDevice) string { return timeText(d.UpdatedAt) },
	"last_seen_at": func(d *v3.EndDevice) string { return timeText(d.LastSeenAt) },
}

func euiText(e *messages.EUI64) string {
	if e == nil {
		return ""
	}
	return e.String()
}

// Fields that hold secrets, and those that the device actor owns.
var (
	keyFields = []string{
		"root_keys.app_key", "root_keys.nwk_key", "claim_authentication_code",
		"session.keys.f_nwk_s_int_key", "session.keys.s_nwk_s_int_key", "session.keys.nwk_s_enc_key", "session.keys.app_s_key",
		"pending_session.keys.f_nwk_s_int_key", "pending_session.keys.s_nwk_s_int_key", "pending_session.keys.nwk_s_enc_key", "pending_session.keys.app_s_key",
	}
	stateFields = []string{"session", "pending_session", "last_dev_nonce", "used_dev_nonces", "last_join_nonce", "last_seen_at", "activated_at"}
)

func hideKeys(t tree, _ *v3.EndDevice) {
	for _, field := range keyFields {
		assign(t, strings.Split(field, "."), nil, false)
	}
}

// hideFrom gives what a caller must not see of a device: keys without the right to read them.
func (c *call) hideFrom() func(tree, *v3.EndDevice) {
	if c.access.Can(c.app(), messages.RightApplicationDevicesReadKeys) {
		return nil
	}
	return hideKeys
}

// mayRead refuses a mask that asks for keys by name if the caller has no right to them. A mask that asks for more than keys gets the rest.
func (c *call) mayRead(paths []string) error {
	for _, p := range paths {
		for _, field := range keyFields {
			if p == field || strings.HasPrefix(p, field+".") || p == "root_keys" {
				return c.needs(messages.RightApplicationDevicesReadKeys)
			}
		}
	}
	return nil
}

// mayWrite refuses to write keys without the right to.
func (c *call) mayWrite(req request[v3.EndDevice]) error {
	if slices.ContainsFunc(keyFields, req.names) {
		return c.needs(messages.RightApplicationDevicesWriteKeys)
	}
	return nil
}

// listDevices shows what the registry knows: the state of so many devices would have to be read one by one. Keys are never in a list.
func (s *Server) listDevices(c *call) error {
	devices, err := s.cfg.Registry.Devices(c.ctx(), c.app())
	if err != nil {
		return err
	}
	shown, err := shownBy(c, hideKeys)
	if err != nil {
		return err
	}
	return listed(c, "end_devices", devices, deviceOrders, shown)
}

// view is one of the four faces of a device in The Things Stack.
type view struct {
	fields []string // what its DELETE takes away
	marks  []string // it is there if one of these is set; nil: it is there if the device is
	drops  bool     // its DELETE ends the session
}

var (
	viewIS = view{}
	viewNS = view{
		fields: []string{"frequency_plan_id", "lorawan_version", "lorawan_phy_version", "supports_join", "supports_class_b", "supports_class_c", "multicast", "mac_settings"},
		marks:  []string{"frequency_plan_id", "lorawan_version", "lorawan_phy_version"},
		drops:  true,
	}
	viewAS = view{fields: []string{"formatters", "skip_payload_crypto"}}
	viewJS = view{
		fields: []string{"root_keys", "net_id", "provisioner_id", "provisioning_data", "resets_join_nonces", "application_server_id"},
		marks:  []string{"root_keys", "net_id", "provisioner_id"},
	}
)

func (v view) has(t tree) bool {
	return v.marks == nil || slices.ContainsFunc(v.marks, func(m string) bool { _, ok := t[m]; return ok })
}

func (v view) get(s *Server, c *call) error {
	paths, err := c.readPaths()
	if err != nil {
		return err
	}
	if err := c.mayRead(paths); err != nil {
		return err
	}
	dev, err := s.cfg.Registry.Device(c.ctx(), c.device())
	if err != nil {
		return err
	}
	if t, err := toTree(dev); err != nil {
		return err
	} else if !v.has(t) {
		return deviceNotFound(c.device())
	}
	if err := s.addState(c.ctx(), &dev, paths); err != nil {
		return err
	}
	return show(c, dev, c.hideFrom())
}

func deviceNotFound(id messages.DeviceID) error {
	return messages.NotFound("end_device_not_found", "end device %q not found in application %q", shorten(id.DeviceID), shorten(id.ApplicationID))
}

// addState adds what the device actor owns, if paths ask for it.
func (s *Server) addState(ctx context.Context, dev *v3.EndDevice, paths []string) error {
	if !slices.ContainsFunc(stateFields, func(f string) bool { return overlaps(paths, f) }) && !slices.Contains(paths, "ids.dev_addr") {
		return nil
	}
	state, _, err := s.state(ctx, dev.DeviceID())
	if err != nil {
		return err
	}
	dev.Session, dev.PendingSession = state.Session, state.PendingSession
	dev.LastDevNonce, dev.UsedDevNonces, dev.LastJoinNonce = state.LastDevNonce, state.UsedDevNonces, state.LastJoinNonce
	if state.LastSeenAt != nil {
		dev.LastSeenAt = state.LastSeenAt
	}
	if state.ActivatedAt != nil {
		dev.ActivatedAt = state.ActivatedAt
	}
	if dev.Session != nil {
		dev.IDs.DevAddr = dev.Session.DevAddr
	}
	return nil
}

// state is that of the actor. known is false for a device whose settings are not complete: its actor can make nothing of its record.
func (s *Server) state(ctx context.Context, id messages.DeviceID) (state v3.EndDevice, known bool, err error) {
	state, err = s.cfg.Devices.DeviceState(ctx, id)
	if code := messages.CodeOf(err); err != nil && (code == messages.CodePrecondition || code == messages.CodeNotFound) {
		return v3.EndDevice{}, false, nil
	}
	return state, err == nil, err
}

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
	return req, c.mayWrite(req)
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
// the same root key is set again.
func (v view) delete(s *Server, c *call) error {
	ctx, cancel := c.steadfast()
	defer cancel()
	id := c.device()
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
	if _, err := s.cfg.Registry.UpdateDevice(ctx, id, none.change()); err != nil {
		return err
	}
	return c.empty()
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
