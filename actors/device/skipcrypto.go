package device

import (
	"bytes"
	"fmt"
	"slices"
	"time"

	"lorikeet/messages"
)

// Where payload crypto is skipped, the application holds the AppSKey and encrypts by itself, for a counter that it chooses. In LoRaWAN 1.0.x that
// counter is shared with our own downlinks, so ours may overtake it. Then the item is void and the application is told, with all that it encrypted
// for the same session, so that it can begin anew in order.

// maxInvalidated is the size of the items that one event lists, in bytes; with more, there are several events.
const maxInvalidated = 200 << 10

// encryptedFor says whether the application encrypted item for ses.
func encryptedFor(item *messages.Downlink, ses *Session) bool {
	return item.Encrypted && bytes.Equal(item.SessionKeyID, ses.KeyID)
}

// admitEncrypted checks for what the item was encrypted: a session that the device has, and a counter of it that nobody has used.
func (s State) admitEncrypted(p *Profile, item messages.Downlink) (messages.Downlink, error) {
	var ses *Session
	for _, candidate := range []*Session{s.Session, s.Pending} {
		if candidate != nil && candidate.Ready() && encryptedFor(&item, candidate) {
			ses = candidate
			break
		}
	}
	if ses == nil {
		return item, messages.Errorf(messages.CodePrecondition, "unknown_session",
			"session_key_id is not that of a session of the device: payload crypto is skipped, so encrypt with the AppSKey of the newest join_accept or uplink_message and send its session_key_id")
	}
	least := ses.NextFCntDown
	for i := range s.Queue {
		if q := &s.Queue[i]; encryptedFor(q, ses) {
			least = max(least, q.FCnt+1)
		}
	}
	switch {
	case ses.FCntDownSpent || p.FCnt16 && least > 0xffff:
		return item, ErrExhausted
	case item.FCnt < least:
		return item, messages.Errorf(messages.CodePrecondition, "f_cnt_too_low", "f_cnt %d was used or is queued: encrypt for f_cnt %d or more", item.FCnt, least)
	case item.FCnt-least >= maxFCntGap || p.FCnt16 && item.FCnt > 0xffff:
		return item, messages.Invalid("f_cnt_too_high", "f_cnt %d is too far ahead for the device: encrypt for f_cnt %d", item.FCnt, least)
	}
	item.MaxAttempts = min(item.MaxAttempts, 1) // another attempt needs another counter, which only the application can encrypt for
	return item, nil
}

// invalidateSpent takes the encrypted items of a session out of the queue if the counter of one of them is spent.
func (s *State) invalidateSpent(p *Profile, ses *Session, now time.Time, ids []string) []Event {
	flying := s.inFlight()
	void := false
	for i := range s.Queue {
		void = void || i != flying && encryptedFor(&s.Queue[i], ses) && s.Queue[i].FCnt < ses.NextFCntDown
	}
	if !void {
		return nil
	}
	return s.invalidated(p, ses, s.takeEncrypted(func(item *messages.Downlink) bool { return encryptedFor(item, ses) }), now, ids)
}

// invalidateForeign takes the items out of the queue that were encrypted for another session than that which the device has now.
func (s *State) invalidateForeign(p *Profile, ses *Session, now time.Time, ids []string) []Event {
	return s.invalidated(p, ses, s.takeEncrypted(func(item *messages.Downlink) bool { return !encryptedFor(item, ses) }), now, ids)
}

// takeEncrypted takes encrypted items out of the queue, but not the one in flight.
func (s *State) takeEncrypted(which func(*messages.Downlink) bool) []messages.Downlink {
	if !slices.ContainsFunc(s.Queue, func(q messages.Downlink) bool { return q.Encrypted }) {
		return nil
	}
	var taken, left []messages.Downlink
	flying := s.inFlight()
	for i := range s.Queue {
		if q := s.Queue[i]; i != flying && q.Encrypted && which(&q) {
			taken = append(taken, q)
		} else {
			left = append(left, q)
		}
	}
	s.Queue = left
	return taken
}

// takeAnnounced gives as many items as one event can list, and the rest.
func takeAnnounced(items []messages.Downlink) (first, rest []messages.Downlink) {
	size := 0
	for i := range items {
		if size += QueueBytes(items[i : i+1]); size > maxInvalidated && i > 0 {
			return items[:i], items[i:]
		}
	}
	return items, nil
}

// invalidated tells the application which of its items are void; ses is the session to encrypt for now.
func (s State) invalidated(p *Profile, ses *Session, items []messages.Downlink, now time.Time, ids []string) (events []Event) {
	for n := 0; len(items) > 0; n++ {
		var listed []messages.Downlink
		listed, items = takeAnnounced(items)
		events = append(events, Event{
			Type: messages.EventDownInvalidated, ID: s.eventID(p, fmt.Sprintf("%d:%d:invalidated:%d", ses.Seq, ses.NextFCntDown, n)), DevAddr: ses.DevAddr,
			SessionKeyID: ses.KeyID, CorrelationIDs: ids, Time: now, PayloadLocation: s.Location, Invalidated: listed, LastFCntDown: s.lastFCntDown(ses),
		})
	}
	return events
}

// lastFCntDown is the highest counter that is spent or that an item was encrypted for; 0 if there is none.
func (s State) lastFCntDown(ses *Session) uint32 {
	last := max(ses.NextFCntDown, 1) - 1
	if ses.FCntDownSpent {
		last = ses.NextFCntDown
	}
	for i := range s.Queue {
		if encryptedFor(&s.Queue[i], ses) {
			last = max(last, s.Queue[i].FCnt)
		}
	}
	return last
}
