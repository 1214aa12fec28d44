package migrate

import (
	"bytes"
	"context"

	"lorikeet/messages"
)

// logReader goes through the log of an application.
type logReader struct {
	store Source
	app   string
	after uint64
	page  []messages.LogEntry
}

// next gives false at the end.
func (r *logReader) next(ctx context.Context) (e messages.LogEntry, ok bool, err error) {
	if len(r.page) == 0 {
		if r.page, err = r.store.ReadLog(ctx, r.app, r.after, batchCount); err != nil || len(r.page) == 0 {
			return e, false, err
		}
	}
	e, r.page = r.page[0], r.page[1:]
	r.after = e.Seq
	return e, true, nil
}

// copyLog appends in the order of the log; a commit may hold events of several devices.
func (m *migration) copyLog(ctx context.Context, app string) error {
	var batch []messages.Event
	size := 0
	flush := func() error {
		if len(batch) == 0 {
			return nil
		}
		device := messages.DeviceID{ApplicationID: app, DeviceID: batch[0].Device.DeviceID}
		if _, err := m.to.Commit(ctx, messages.Commit{Device: device, Events: batch}); err != nil {
			return err
		}
		m.count("events", len(batch))
		batch, size = nil, 0
		return nil
	}
	for log := (logReader{store: m.from, app: app}); ; {
		e, ok, err := log.next(ctx)
		if err != nil {
			return err
		}
		if !ok {
			return flush()
		}
		batch = append(batch, e.Event)
		if size += len(e.JSON); len(batch) >= batchCount || size >= batchBytes {
			if err := flush(); err != nil {
				return err
			}
		}
	}
}

// compareLog reads both logs side by side. It gives the place in the target of each cursor: the last event that is settled, or before the first one.
// A cursor beyond the end stands for no place (its integration begins with what comes then) and is left out.
func (m *migration) compareLog(ctx context.Context, app string, cursors map[string]uint64) (places map[string]uint64, err error) {
	_, end, err := m.from.LogRange(ctx, app)
	if err != nil {
		return nil, err
	}
	first, _, err := m.to.LogRange(ctx, app)
	if err != nil {
		return nil, err
	}
	place := first - 1
	places = map[string]uint64{}
	for name, seq := range cursors {
		if seq <= end {
			places[name] = place
		}
	}
	from, to := logReader{store: m.from, app: app}, logReader{store: m.to, app: app}
	got, exists, err := to.next(ctx)
	for err == nil {
		want, more, readErr := from.next(ctx)
		if readErr != nil {
			return nil, readErr
		}
		if !more && !exists {
			return places, nil
		}
		if more && exists && sameEvent(want.Event, got.Event) {
			place = got.Seq
			got, exists, err = to.next(ctx)
		} else if again, readErr := m.repeats(ctx, app, want, more); readErr != nil {
			return nil, readErr
		} else if !again {
			return nil, messages.Errorf(messages.CodeInternal, "log_differs",
				"entry %d of the source (%.80s) is not entry %d of the target (%.80s): does a server run on one of them?", want.Seq, want.ID, got.Seq, got.ID)
		}
		for name := range places {
			if want.Seq <= cursors[name] {
				places[name] = place
			}
		}
	}
	return nil, err
}

// repeats says whether an event was in the log of the source before. A shared store may write one twice, and may leave out the second one.
func (m *migration) repeats(ctx context.Context, app string, e messages.LogEntry, more bool) (bool, error) {
	for log := (logReader{store: m.from, app: app}); more; {
		earlier, ok, err := log.next(ctx)
		if err != nil || !ok || earlier.Seq >= e.Seq {
			return false, err
		}
		if earlier.ID == e.ID {
			return true, nil
		}
	}
	return false, nil
}

func sameEvent(a, b messages.Event) bool {
	return a.ID == b.ID && a.Device == b.Device && a.DevEUI == b.DevEUI && a.JoinEUI == b.JoinEUI && a.DevAddr == b.DevAddr &&
		a.Type == b.Type && a.Time.Equal(b.Time) && bytes.Equal(a.JSON, b.JSON)
}
