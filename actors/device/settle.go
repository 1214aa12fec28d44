package device

import (
	"slices"

	"lorikeet/messages"
)

// settle closes the transmission in flight now that the device has spoken again: what was not reported counts as sent, and a confirmed item
// is acknowledged or not by the ACK bit (LoRaWAN 1.0.4 §4.3.1.2).
func (s State) settle(p *Profile, cmd *ReceiveUplink, ack bool) (State, []Event) {
	f, i := s.InFlight, s.inFlight()
	s.InFlight = nil
	if i < 0 || f.SessionSeq != s.Session.Seq {
		return s, nil
	}
	item, ids := s.Queue[i], cmd.IDs
	item.FCnt, item.SessionKeyID = f.FCnt, s.Session.KeyID
	var events []Event
	if !f.Sent {
		events = append(events, s.downlinkEvent(p, messages.EventDownSent, s.Session, item, "sent", cmd.Now, ids))
	}
	if !item.Confirmed {
		s.removeAt(i)
		return s, events
	}
	if ack {
		s.removeAt(i)
		return s, append(events, s.downlinkEvent(p, messages.EventDownAck, s.Session, item, "ack", cmd.Now, ids))
	}
	events = append(events, s.downlinkEvent(p, messages.EventDownNack, s.Session, item, "nack", cmd.Now, ids))
	if item.Attempt >= item.MaxAttempts {
		s.removeAt(i)
		events = append(events, s.failed(p, s.Session, item, cmd.Now, ids, attemptsUsed(item)))
	}
	return s, events
}

func attemptsUsed(item messages.Downlink) *messages.Error {
	return messages.Errorf(messages.CodeExhausted, "max_retries_reached", "confirmed downlink was not acknowledged in %d attempts", item.Attempt)
}

func (s State) reportTransmission(p *Profile, cmd ReportTransmission) (Decision, error) {
	f, i := s.InFlight, s.inFlight()
	if i < 0 || f.FCnt != cmd.FCnt || f.SessionSeq != cmd.SessionSeq || f.Sent || s.Session == nil {
		return Decision{Next: s}, nil // an answer without an item, or settled meanwhile
	}
	next := s
	item := s.Queue[i]
	item.FCnt, item.SessionKeyID = f.FCnt, s.Session.KeyID
	sent := *f
	sent.Sent = true
	switch {
	case cmd.Missed:
		// Nothing went out: the item keeps its place for the next uplink. Its counter stays burnt.
		next.InFlight = nil
		next.Queue = slices.Clone(s.Queue)
		next.Queue[i].Attempt = max(item.Attempt, 1) - 1
		return Decision{Next: next, Changed: true, Events: next.invalidateSpent(p, s.Session, cmd.Now, cmd.IDs)}, nil
	case cmd.Err == messages.TxOK || cmd.Err == messages.TxUnanswered:
		ev := s.downlinkEvent(p, messages.EventDownSent, s.Session, item, "sent", cmd.Now, cmd.IDs)
		next.InFlight = &sent
		if !item.Confirmed {
			next.InFlight = nil
			next.removeAt(i)
		}
		return Decision{Next: next, Changed: true, Events: []Event{ev}}, nil
	case item.Confirmed && item.Attempt < item.MaxAttempts:
		next.InFlight = nil
		return Decision{Next: next, Changed: true}, nil
	}
	next.InFlight = nil
	next.removeAt(i)
	reason := messages.Errorf(messages.CodeUnavailable, "transmission", "radio gateway did not send: %s", cmd.Err)
	return Decision{Next: next, Changed: true, Events: []Event{s.failed(p, s.Session, item, cmd.Now, cmd.IDs, reason)}}, nil
}
