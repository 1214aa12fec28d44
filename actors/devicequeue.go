package actors

import (
	"context"
	"errors"
	"slices"

	"lorikeet/actors/device"
	"lorikeet/messages"
)

// PushDownlinks appends to a device's queue, see QueueDownlinks.
func (d *Devices) PushDownlinks(ctx context.Context, id messages.DeviceID, items []messages.Downlink) error {
	_, err := d.QueueDownlinks(ctx, id, items, false)
	return err
}

// ReplaceDownlinks replaces a device's queue; no items clears it.
func (d *Devices) ReplaceDownlinks(ctx context.Context, id messages.DeviceID, items []messages.Downlink) error {
	_, err := d.QueueDownlinks(ctx, id, items, true)
	return err
}

// QueueDownlinks appends to a device's queue, or replaces it, and gives the items as they were accepted: with their ids, and encoded. Items with a
// decoded payload and no raw one are encoded first; if one fails, none is queued.
func (d *Devices) QueueDownlinks(ctx context.Context, id messages.DeviceID, items []messages.Downlink, replace bool) ([]messages.Downlink, error) {
	dev, err := d.cfg.Registry.Device(ctx, id)
	if err != nil {
		return nil, err
	}
	if len(items) == 0 && !replace {
		return nil, nil
	}
	link, err := d.cfg.Registry.Link(ctx, id.ApplicationID)
	if err != nil {
		return nil, err
	}
	now, skip, formatter := d.cfg.Clock(), skipsPayloadCrypto(dev, link), downFormatter(dev, link)
	items = slices.Clone(items)
	for i := range items {
		if skip {
			err = mustBeEncrypted(items[i])
		} else {
			err = d.encode(ctx, formatter, formatterDevice(&dev), &items[i])
		}
		if err == nil {
			err = device.CheckDownlink(items[i], now)
		}
		if err != nil {
			return nil, err
		}
		items[i].ID = d.cfg.Random.ULID(now)
	}
	return items, d.push(ctx, id, items, replace)
}

// Parts of a request are committed one by one, so that each stays small enough for every store with the events that it makes.
const (
	maxPartItems = 500
	maxPartBytes = 256 << 10
)

// push hands the items to the device. The first part says how much is to come: a request that the queue can't hold changes nothing.
func (d *Devices) push(ctx context.Context, id messages.DeviceID, items []messages.Downlink, replace bool) error {
	now := d.cfg.Clock()
	ids := []string{"as:downlink:" + d.cfg.Random.ULID(now)}
	for done := 0; ; {
		part, rest := nextPart(items[done:])
		_, err := d.router.Ask(ctx, id, device.PushDownlinks{
			Items: part, Replace: replace && done == 0, Now: now, IDs: ids, Random: d.cfg.Random.ULID(now), MoreItems: len(rest), MoreBytes: device.QueueBytes(rest),
		})
		if err != nil && done > 0 {
			return messages.Errorf(messages.CodeOf(err), refusalName(err), "only the first %d of %d downlinks are in the queue: send the others again: %w", done, len(items), err)
		}
		if done += len(part); err != nil || len(rest) == 0 {
			return err
		}
	}
}

func nextPart(items []messages.Downlink) (part, rest []messages.Downlink) {
	size := 0
	for i := range items {
		if size += device.QueueBytes(items[i : i+1]); i == maxPartItems || i > 0 && size > maxPartBytes {
			return items[:i], items[i:]
		}
	}
	return items, nil
}

func mustBeEncrypted(item messages.Downlink) error {
	if len(item.FRMPayload) == 0 && item.DecodedPayload != nil {
		return messages.Errorf(messages.CodePrecondition, "payload_crypto_skipped",
			"decoded_payload can't be encoded, since payload crypto is skipped: encrypt by yourself, and send frm_payload with f_cnt and session_key_id")
	}
	return nil
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

// CancelDownlinks takes items out of a device's queue by their ids, with a downlink_failed for each, and says why others stay.
func (d *Devices) CancelDownlinks(ctx context.Context, id messages.DeviceID, ids []string) (refused map[string]*messages.Error, err error) {
	now := d.cfg.Clock()
	out, err := d.router.Ask(ctx, id, device.CancelDownlinks{
		Items: ids, Now: now, IDs: []string{"as:downlink:" + d.cfg.Random.ULID(now)}, Random: d.cfg.Random.ULID(now),
	})
	if err != nil {
		return nil, err
	}
	return out.(map[string]*messages.Error), nil
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
