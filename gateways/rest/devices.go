package rest

import (
	"context"
	"hash/maphash"
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
	// The AppSKey stays with the session, which NS and AS share: without it uplinks could not be read any more.
	viewAS = view{fields: []string{"formatters", "skip_payload_crypto"}}
	viewJS = view{
		fields: []string{"root_keys", "net_id", "provisioner_id", "provisioning_data", "resets_join_nonces", "application_server_id"},
		marks:  []string{"root_keys", "net_id", "provisioner_id"},
	}
)

// views by the prefix of their paths.
var views = map[string]view{"/ns": viewNS, "/as": viewAS, "/js": viewJS}

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
