package actors

import (
	"context"

	"lorikeet/actors/device"
	"lorikeet/messages"
	v3 "lorikeet/messages/v3"
)

// Devices is what doors ask of devices. Every method returns after its effect is durable.
type Devices struct {
	cfg    *DeviceConfig
	router Router
}

// NewDevices gives the doors' view of the devices behind router.
func NewDevices(cfg *DeviceConfig, router Router) *Devices { return &Devices{cfg: cfg, router: router} }

// DeviceState shows what the device's actor owns: sessions with keys and counters, nonces, times.
func (d *Devices) DeviceState(ctx context.Context, id messages.DeviceID) (v3.EndDevice, error) {
	out, err := d.router.Ask(ctx, id, readState{})
	if err != nil {
		return v3.EndDevice{}, err
	}
	return out.(v3.EndDevice), nil
}

// SetDeviceSession sets the activation of a device (ABP, or a session that moves here). A session that is given in parts takes uplinks once it has
// its address and FNwkSIntKey.
func (d *Devices) SetDeviceSession(ctx context.Context, id messages.DeviceID, s v3.Session) error {
	cmd := device.SetSession{KeyID: s.Keys.SessionKeyID, LastFCntUp: uint32(s.LastFCntUp), HasFCntUp: s.LastFCntUp > 0, LastFCntDown: uint32(max(s.LastNFCntDown, s.LastAFCntDown)),
		Now: d.cfg.Clock(), Random: d.cfg.Random.ULID(d.cfg.Clock())}
	if s.DevAddr != nil {
		cmd.DevAddr = *s.DevAddr
	}
	cmd.NwkSKey, cmd.AppSKey = keyOf(s.Keys.FNwkSIntKey), keyOf(s.Keys.AppSKey)
	_, err := d.router.Ask(ctx, id, cmd)
	return err
}

func keyOf(e *v3.KeyEnvelope) messages.Key {
	if e == nil || e.Key == nil {
		return messages.Key{}
	}
	return messages.Key(*e.Key)
}

// ResetDevice forgets what the radio has taught about the device.
func (d *Devices) ResetDevice(ctx context.Context, id messages.DeviceID) error {
	_, err := d.router.Ask(ctx, id, device.Reset{})
	return err
}

// DeleteDevice drops the session record of a device that left the registry.
func (d *Devices) DeleteDevice(ctx context.Context, id messages.DeviceID) error {
	_, err := d.router.Ask(ctx, id, deleteState{})
	return err
}

// ForgetDevice drops the session record of a device that is not in the registry. If it is there (again), nothing happens.
func (d *Devices) ForgetDevice(ctx context.Context, id messages.DeviceID) error {
	_, err := d.router.Ask(ctx, id, forgetState{})
	return err
}

// SimulateUplink publishes a message as if the device had sent it, marked as simulated; session and counters stay.
func (d *Devices) SimulateUplink(ctx context.Context, id messages.DeviceID, up v3.ApplicationUp) error {
	if up.Type() == "" {
		return messages.Invalid("no_message", `body has no message, or several: send for example {"uplink_message":{"f_port":1,"frm_payload":"AQI="}}`)
	}
	_, err := d.router.Ask(ctx, id, simulate{up})
	return err
}

// RegistryChanged tells awake actors to read their settings again.
func (d *Devices) RegistryChanged(c messages.Change) {
	switch c.Kind {
	case messages.KindDevice:
		if id, err := messages.ParseUID(c.ID); err == nil {
			if d.cfg.Index.Has(id) && !c.Deleted && d.router.Owns(id) {
				d.router.Tell(id, reloadProfile{}) // also asleep: the directory may need to know
				return
			}
			d.router.TellAwake(id.ApplicationID, id.DeviceID, reloadProfile{})
		}
	case messages.KindLink, messages.KindActivation:
		d.router.TellAwake(c.ID, "", forgetProfile{})
	}
}
