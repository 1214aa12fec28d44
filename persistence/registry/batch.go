package registry

import (
	"context"
	"errors"
	"log/slog"

	"lorikeet/messages"
	v3 "lorikeet/messages/v3"
)

// A batch is what one change of the store takes: JetStream allows 1,000 documents in one, and a device may have two.
const (
	batchDevices = 400
	batchBytes   = 2 << 20
)

// CreateDevices makes devices of one application, with as few changes of the store as possible. The errors are those of CreateDevice, one for each
// device in its place: what is wrong with one keeps no other from being made.
func (r *Registry) CreateDevices(ctx context.Context, applicationID string, devices []v3.EndDevice) []error {
	errs := make([]error, len(devices))
	ids, pairs := map[string]struct{}{}, map[euiPair]struct{}{}
	var b deviceBatch
	flush := func() {
		r.createBatch(ctx, applicationID, devices, b.at, b.writes, errs)
		b = deviceBatch{}
	}
	for i := range devices {
		devices[i].IDs.ApplicationIDs.ApplicationID = applicationID
		writes, err := r.newDevice(&devices[i])
		if err != nil {
			errs[i] = err
			continue
		}
		uid := devices[i].DeviceID().UID()
		pair, paired := pairOf(devices[i])
		_, sameID := ids[uid]
		_, samePair := pairs[pair]
		if sameID || paired && (samePair || r.pairKnown(pair)) {
			flush() // what came before is to be seen
			_, errs[i] = r.CreateDevice(ctx, devices[i])
			continue
		}
		if ids[uid] = struct{}{}; paired {
			pairs[pair] = struct{}{}
		}
		if b.add(i, writes); len(b.at) >= batchDevices || b.bytes >= batchBytes {
			flush()
		}
	}
	flush()
	return errs
}

// CheckDevice says what CreateDevice would refuse in a device by itself: not whether its id or its EUIs are taken.
func (r *Registry) CheckDevice(device v3.EndDevice) error {
	_, err := r.newDevice(&device)
	return err
}

// newDevice settles a device and gives the writes that create it: first its own, then that of its EUIs.
func (r *Registry) newDevice(device *v3.EndDevice) ([]messages.Write, error) {
	id := device.DeviceID()
	for _, s := range []string{id.ApplicationID, id.DeviceID} {
		if err := messages.ValidateID(s); err != nil {
			return nil, err
		}
	}
	if err := r.editDevice(id, nil).settle(v3.EndDevice{}, device); err != nil {
		return nil, err
	}
	value, err := encode(*device)
	if err != nil {
		return nil, err
	}
	writes := []messages.Write{{Kind: messages.KindDevice, ID: id.UID(), Value: value, Expect: true}}
	if pair, ok := pairOf(*device); ok {
		writes = append(writes, messages.Write{Kind: messages.KindDeviceEUI, ID: pair.id(), Value: []byte(id.UID()), Expect: true})
	}
	return writes, nil
}

func (r *Registry) pairKnown(pair euiPair) bool {
	r.index.mutex.RLock()
	defer r.index.mutex.RUnlock()
	_, known := r.index.devices[pair]
	return known
}

type deviceBatch struct {
	at     []int
	writes [][]messages.Write // of the devices in at
	bytes  int
}

func (b *deviceBatch) add(i int, writes []messages.Write) {
	b.at, b.writes = append(b.at, i), append(b.writes, writes)
	for _, w := range writes {
		b.bytes += len(w.ID) + len(w.Value)
	}
}

// createBatch makes all of a batch at once. If something of it is there already, halves of it are tried, down to single devices, whose error says what is
// taken.
func (r *Registry) createBatch(ctx context.Context, applicationID string, devices []v3.EndDevice, at []int, writes [][]messages.Write, errs []error) {
	switch len(at) {
	case 0:
		return
	case 1:
		_, errs[at[0]] = r.CreateDevice(ctx, devices[at[0]])
		return
	}
	var all []messages.Write
	for _, w := range writes {
		all = append(all, w...)
	}
	err := r.write(ctx, place{kind: messages.KindDevice, id: all[0].ID, application: applicationID}, all)
	if errors.Is(err, messages.ErrConflict) {
		half := len(at) / 2
		r.createBatch(ctx, applicationID, devices, at[:half], writes[:half], errs)
		r.createBatch(ctx, applicationID, devices, at[half:], writes[half:], errs)
		return
	}
	for _, i := range at {
		errs[i] = err
	}
}

// EachDevice calls do with the devices of an application, some at a time, in the order of their ids, and stops at its first error. A damaged one is logged
// and left out.
func (r *Registry) EachDevice(ctx context.Context, applicationID string, do func([]v3.EndDevice) error) error {
	if err := r.need(ctx, applicationID); err != nil {
		return err
	}
	return r.pages(ctx, messages.KindDevice, applicationID+".", func(docs []messages.Document) error {
		devices := make([]v3.EndDevice, 0, len(docs))
		for _, doc := range docs {
			d, err := decode[v3.EndDevice](doc)
			if err != nil {
				r.log.LogAttrs(ctx, slog.LevelError, "device left out", slog.Any("err", err))
				continue
			}
			devices = append(devices, d)
		}
		return do(devices)
	})
}
