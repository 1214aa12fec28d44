package actors

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"lorikeet/actors/device"
	"lorikeet/messages"
)

// maxDecisions bounds how often a step is decided anew because someone else wrote the record meanwhile.
const maxDecisions = 4

// step is the heart of the shell: decide, commit, adopt, carry out. When it returns, everything is durable.
func (d *Device) step(cmd device.Command) (device.Decision, error) {
	for n := 1; ; n++ {
		decision, err := device.Decide(d.state, d.profile, cmd)
		if err != nil {
			return decision, err
		}
		err = d.commit(decision)
		switch {
		case err == nil:
			if t := decision.Transmit; t != nil && len(t.Windows) > 0 {
				d.transmit(t)
			}
			return decision, nil
		case errors.Is(err, messages.ErrConflict) && !d.cfg.Router().Owns(d.id):
			// Another node has the device by now: nothing of this decision is published or sent.
			d.loaded, d.moved = false, true
			return device.Decision{}, messages.ErrMoved
		case errors.Is(err, messages.ErrConflict) && n < maxDecisions:
			// Another activation that has not noticed yet, or an earlier write of ours with unknown outcome: look at what is stored, decide again.
			d.loaded = false
			if err := d.ready(); err != nil {
				return device.Decision{}, err
			}
		default:
			d.loaded = false
			return device.Decision{}, fmt.Errorf("commit of %s: %w", d.id, err)
		}
	}
}

// stepLogged is a step that nobody waits for.
func (d *Device) stepLogged(cmd device.Command) {
	err := d.ready()
	if err == nil {
		_, err = d.step(cmd)
	}
	// A device that left the registry, or is only half written, has nothing to lose.
	if err != nil && messages.CodeOf(err) != messages.CodeNotFound && refusalName(err) != "device_settings" {
		d.log.Warn("step of a device is lost", "step", fmt.Sprintf("%T", cmd), "err", err)
	}
}

func (d *Device) commit(decision device.Decision) error {
	if !decision.Changed && len(decision.Events) == 0 {
		return nil
	}
	c := messages.Commit{Device: d.id, Expected: d.revision}
	var err error
	if decision.Changed {
		if c.Session, err = decision.Next.Marshal(); err != nil {
			return err
		}
	}
	for _, e := range decision.Events {
		ev, err := d.view.encode(e, d.cfg.Clock())
		if err != nil {
			return err
		}
		c.Events = append(c.Events, ev...)
	}
	ctx, cancel := d.context()
	defer cancel()
	if decision.Changed {
		if err := d.prepareIndex(ctx, decision.Next); err != nil {
			return err
		}
	}
	rev, err := d.cfg.Store.Commit(ctx, c)
	if err != nil {
		return err
	}
	if decision.Changed {
		d.revision, d.state = rev, decision.Next
		d.cfg.Index.Set(d.id, indexEntries(d.state)...)
	}
	return nil
}

// prepareIndex makes the sessions findable that next has beside those of the present state.
func (d *Device) prepareIndex(ctx context.Context, next device.State) error {
	before, after := indexEntries(d.state), indexEntries(next)
	if !slices.ContainsFunc(after, func(e messages.SessionEntry) bool { return !hasSession(before, e) }) {
		return nil
	}
	all := after
	for _, e := range before {
		if !hasSession(after, e) {
			all = append(all, e)
		}
	}
	return d.cfg.Index.Prepare(ctx, d.id, all...)
}

func hasSession(list []messages.SessionEntry, e messages.SessionEntry) bool {
	return slices.ContainsFunc(list, func(o messages.SessionEntry) bool { return o.DevAddr == e.DevAddr && o.NwkSKey == e.NwkSKey })
}

func (d *Device) transmit(t *device.Transmit) {
	seq, fCnt, join := t.SessionSeq, t.FCnt, t.Join
	d.cfg.Transmitter.Transmit(t, func(result messages.TxError, missed bool) {
		if join {
			return
		}
		now := d.cfg.Clock()
		d.cfg.Router().Tell(d.id, transmission{device.ReportTransmission{
			SessionSeq: seq, FCnt: fCnt, Err: result, Missed: missed, Now: now, IDs: []string{"as:up:" + d.cfg.Random.ULID(now)},
		}})
	})
}

// indexEntries are the sessions by which the directory finds the device.
func indexEntries(s device.State) []messages.SessionEntry {
	var out []messages.SessionEntry
	for _, ses := range []*device.Session{s.Session, s.Pending} {
		if ses != nil && ses.Ready() {
			out = append(out, messages.SessionEntry{DevAddr: ses.DevAddr, NwkSKey: ses.NwkSKey, LastFCntUp: ses.LastFCntUp, HasFCntUp: ses.HasFCntUp,
				FCnt16: ses.FCnt16, ResetsFCnt: ses.ResetsFCnt})
		}
	}
	return out
}
