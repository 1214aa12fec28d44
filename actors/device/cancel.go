package device

import (
	"lorikeet/messages"
)

// cancelDownlinks takes items out of the queue. One that a radio gateway has can't be called back; if it is confirmed, it is not tried again
// and nothing more is said of it. What is not in the queue, or is under way, is refused by itself.
func (s State) cancelDownlinks(p *Profile, cmd CancelDownlinks) (Decision, error) {
	d := Decision{Next: s.named(cmd.Random), Refused: map[string]*messages.Error{}}
	wanted := make(map[string]bool, len(cmd.Items))
	for _, id := range cmd.Items {
		wanted[id] = true
		d.Refused[id] = messages.NotFound("downlink_not_found", "no downlink %.40q is in the queue: it was sent, failed or never there; see GET …/down", id)
	}
	ses, flying := s.current().orEmpty(), s.inFlight()
	var left []messages.Downlink
	for i, item := range s.Queue {
		switch {
		case !wanted[item.ID] || item.ID == "":
			left = append(left, item)
			continue
		case i == flying && !item.Confirmed:
			d.Refused[item.ID] = messages.Errorf(messages.CodePrecondition, "downlink_in_flight", "downlink %s is with a radio gateway already: it can't be called back", item.ID)
			left = append(left, item)
			continue
		case i == flying:
			item.FCnt, item.SessionKeyID = s.InFlight.FCnt, ses.KeyID
			d.Next.InFlight = s.InFlight.withoutItem()
		}
		delete(d.Refused, item.ID)
		reason := messages.Errorf(messages.CodePrecondition, "downlink_cancelled", "downlink was cancelled")
		d.Events = append(d.Events, d.Next.failed(p, ses, item, cmd.Now, cmd.IDs, reason))
	}
	d.Next.Queue, d.Changed = left, len(d.Events) > 0
	return d, nil
}

// withoutItem keeps the transmission for its counter; its outcome concerns no item any more.
func (f InFlight) withoutItem() *InFlight {
	f.ItemID = ""
	return &f
}
