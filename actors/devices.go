package actors

import (
	"context"
	"errors"
	"slices"

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

// PushDownlinks appends to a device's queue. Items with a decoded payload and no raw one are encoded first; if one fails, none is queued.
func (d *Devices) PushDownlinks(ctx context.Context, id messages.DeviceID, items []messages.Downlink) error {
	return d.push(ctx, id, items, false)
}

// ReplaceDownlinks replaces a device's queue; no items clears it.
func (d *Devices) ReplaceDownlinks(ctx context.Context, id messages.DeviceID, items []messages.Downlink) error {
	return d.push(ctx, id, items, true)
}

func (d *Devices) push(ctx context.Context, id messages.DeviceID, items []messages.Downlink, replace bool) error {
	dev, err := d.cfg.Registry.Device(ctx, id)
	if err != nil {
		return err
	}
	if len(items) == 0 && !replace {
		return nil
	}
	link, err := d.cfg.Registry.Link(ctx, id.ApplicationID)
	if err != nil {
		return err
	}
	now := d.cfg.Clock()
	items = slices.Clone(items)
	for i := range items {
		if err := d.encode(ctx, downFormatter(dev, link), formatterDevice(&dev), &items[i]); err != nil {
			return err
		}
		items[i].ID = d.cfg.Random.ULID(now)
	}
	_, err = d.router.Ask(ctx, id, device.PushDownlinks{
		Items: items, Replace: replace, Now: now, IDs: []string{"as:downlink:" + d.cfg.Random.ULID(now)}, Random: d.cfg.Random.ULID(now),
	})
	return err
}

func (d *Devices) encode(ctx context.Context, f messages.Formatter, dev messages.FormatterDevice, item *messages.Downlink) error {
	switch {
	case len(item.FRMPayload) > 0 && f.Kind != "" && f.Kind != messages.FormatterNone:
		// The raw payload is what is sent; a decoder may show what it means.
		if out, err := d.cfg.Formatters.DecodeDownlink(ctx, f, messages.DecodeInput{Bytes: item.FRMPayload, FPort: item.FPort, RecvTime: d.cfg.Clock(), FormatterDevice: dev}); err == nil {
			item.DecodedPayload, item.DecodedWarnings = out.Data, out.Warnings
		}
	case len(item.FRMPayload) == 0 && item.DecodedPayload != nil:
		if f.Kind == "" {
			return messages.Invalid("formatter_not_configured", "decoded_payload can't be encoded: the device has no downlink formatter; set one, or send frm_payload")
		}
		out, err := d.cfg.Formatters.EncodeDownlink(ctx, f, messages.EncodeInput{Data: item.DecodedPayload, FPort: item.FPort, FormatterDevice: dev})
		if err != nil {
			return err
		}
		item.FRMPayload, item.FPort, item.DecodedWarnings = out.Bytes, out.FPort, out.Warnings
	}
	return nil
}

// ListDownlinks gives the queue, the head first.
func (d *Devices) ListDownlinks(ctx context.Context, id messages.DeviceID) ([]messages.Downlink, error) {
	out, err := d.router.Ask(ctx, id, readQueue{})
	if err != nil {
		return nil, err
	}
	return out.([]messages.Downlink), nil
}

// FailDownlinks publishes downlink_failed for items that a door refused. For a device that does not exist it does nothing.
func (d *Devices) FailDownlinks(ctx context.Context, id messages.DeviceID, items []messages.Downlink, reason error) error {
	var e *messages.Error
	if !errors.As(reason, &e) {
		e = messages.Errorf(messages.CodeInternal, "internal", "internal error")
	}
	now := d.cfg.Clock()
	items = slices.Clone(items)
	for i := range items {
		items[i].ID = d.cfg.Random.ULID(now)
	}
	_, err := d.router.Ask(ctx, id, device.FailDownlinks{
		Items: items, Reason: e, Now: now, IDs: []string{"as:downlink:" + d.cfg.Random.ULID(now)}, Random: d.cfg.Random.ULID(now),
	})
	return err
}

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
		return messages.Invalid("no_message", `body has no message: send for example {"uplink_message":{"f_port":1,"frm_payload":"AQI="}}`)
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
	case messages.KindLink:
		d.router.TellAwake(c.ID, "", forgetProfile{})
	}
}
