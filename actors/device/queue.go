package device

import (
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"lorikeet/messages"
)

const (
	// MaxQueue is how many downlinks wait for one device at most; MaxQueueBytes bounds their size in the session record, so that with all else
	// that is in it (128 KiB of DevNonces at most) it stays below what every store takes.
	MaxQueue      = 10000
	MaxQueueBytes = 768 << 10
	// DefaultAttempts of a confirmed downlink, and the most that can be asked for.
	DefaultAttempts = 8
	MaxAttempts     = 32
	// maxFailures bounds the events of one step; what else has expired or does not fit waits for the next, unsent.
	maxFailures = 200
)

// current is the session that a new downlink is for; nil if the device has none.
func (s State) current() *Session {
	for _, ses := range []*Session{s.Session, s.Pending} {
		if ses != nil && ses.Ready() {
			return ses
		}
	}
	return nil
}

func (s State) pushDownlinks(p *Profile, cmd PushDownlinks) (Decision, error) {
	ses := s.current()
	if ses == nil {
		return Decision{}, ErrNoSession
	}
	next, events := s.named(cmd.Random), []Event(nil)
	if cmd.Replace {
		next.Queue = nil
		if f := next.InFlight; f != nil {
			next.InFlight = f.withoutItem()
		}
	} else {
		next, events = next.expire(p, cmd.Now, nil)
	}
	next.Queue = slices.Clone(next.Queue)
	known, waiting := next.queuedIDs(), next.waiting()
	for _, item := range cmd.Items {
		if known[item.ID] {
			continue // the request came twice, since its sender could not know that it had arrived
		}
		item, err := next.admit(p, item, cmd.Now)
		if err != nil {
			return Decision{}, err
		}
		item.CorrelationIDs = slices.Concat(item.CorrelationIDs, cmd.IDs) // all its events are found by them
		next.Queue = append(next.Queue, item)
		if !item.Encrypted {
			item.FCnt, item.SessionKeyID = ses.NextFCntDown+waiting, ses.KeyID
		}
		if len(item.ClassBC) == 0 {
			waiting++
		}
		events = append(events, next.downlinkEvent(p, messages.EventDownQueued, ses, item, "queued", cmd.Now, nil))
	}
	if n, size := len(next.Queue)+cmd.MoreItems, QueueBytes(next.Queue)+cmd.MoreBytes; n > MaxQueue || size > MaxQueueBytes {
		return Decision{}, messages.Errorf(messages.CodeExhausted, "downlink_queue_capacity",
			"downlink queue would hold %d items of %d bytes: at most %d items and %d bytes; replace the queue, or wait until it was sent", n, size, MaxQueue, MaxQueueBytes)
	}
	next, expired := next.expire(p, cmd.Now, nil) // an absolute_time may lie in the past
	return Decision{Next: next, Changed: true, Events: append(events, expired...)}, nil
}

// admit checks an item and sets what the server decides about it.
func (s State) admit(p *Profile, item messages.Downlink, now time.Time) (messages.Downlink, error) {
	if err := CheckDownlink(item, now); err != nil {
		return item, err
	}
	item.Attempt, item.Encrypted = 0, p.SkipCrypto
	if item.Confirmed && item.MaxAttempts == 0 {
		item.MaxAttempts = DefaultAttempts
	}
	if ttl := item.TimeToLive; ttl > 0 {
		item.ExpiresAt = earlier(item.ExpiresAt, now.Add(ttl))
	}
	item.TimeToLive = 0
	item.ExpiresAt = earlier(item.ExpiresAt, item.AbsoluteTime)
	item.AbsoluteTime = time.Time{}
	if item.Encrypted {
		return s.admitEncrypted(p, item)
	}
	item.FCnt, item.SessionKeyID = 0, nil
	return item, nil
}

// earlier gives the earlier of two times; the zero time is never.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// queuedIDs are the ids of the items in the queue and of the one that was just sent. They are given once for each request.
func (s State) queuedIDs() map[string]bool {
	ids := make(map[string]bool, len(s.Queue)+1)
	for i := range s.Queue {
		ids[s.Queue[i].ID] = true
	}
	if s.InFlight != nil {
		ids[s.InFlight.ItemID] = true
	}
	delete(ids, "")
	return ids
}

// CheckDownlink refuses an item that no queue would take.
func CheckDownlink(item messages.Downlink, now time.Time) error {
	switch {
	case item.FPort == 0 || item.FPort > 223:
		return messages.Invalid("no_f_port", "f_port %d: use 1 to 223", item.FPort)
	case len(item.FRMPayload) > 242:
		return messages.Invalid("application_downlink_too_long", "frm_payload has %d bytes: no data rate carries more than 242", len(item.FRMPayload))
	case item.MaxAttempts > MaxAttempts:
		return messages.Invalid("downlink_max_retries_invalid", "confirmed_retry.max_attempts %d: use 1 to %d", item.MaxAttempts, MaxAttempts)
	case item.TimeToLive < 0:
		return messages.Invalid("time_to_live", "time_to_live %s: use a time of more than none, e.g. \"3600s\"", item.TimeToLive)
	case expired(&item, now):
		return messages.Invalid("downlink_expired", "expires_at %s is in the past: it is %s", item.ExpiresAt.UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339))
	}
	return nil
}

// QueueBytes is the size of downlinks in the session record.
func QueueBytes(queue []messages.Downlink) int {
	n := 0
	for i := range queue {
		n += 4 + proto.Size(queued(&queue[i]))
	}
	return n
}

// Items is the queue as applications see it, the head first: with the state of each item, and the counter that is expected or was given.
func (s State) Items() []messages.Downlink {
	out := slices.Clone(s.Queue)
	ses, f, flying := s.current().orEmpty(), s.InFlight, s.inFlight()
	waiting := uint32(0)
	for i := range out {
		item := &out[i]
		item.Status = messages.DownlinkQueued
		if !item.Encrypted {
			item.FCnt, item.SessionKeyID = ses.NextFCntDown+waiting, ses.KeyID
		}
		switch {
		case i == flying && f.Sent:
			item.Status, item.FCnt = messages.DownlinkAwaitingAck, f.FCnt
		case i == flying:
			item.Status, item.FCnt = messages.DownlinkInFlight, f.FCnt
		case len(item.ClassBC) == 0:
			waiting++
		}
	}
	return out
}

// waiting counts the items that the next downlinks will carry.
func (s State) waiting() (n uint32) {
	flying := s.inFlight()
	for i := range s.Queue {
		if i != flying && len(s.Queue[i].ClassBC) == 0 {
			n++
		}
	}
	return n
}

// head is the place of the item that the next downlink carries, -1 if there is none. Items go out in the order in which they came. Those with
// class_b_c need what class A has not, an earlier path or a time; they wait without holding up the others.
func (s State) head(ses *Session, now time.Time) int {
	for i := range s.Queue {
		if s.sendable(ses, &s.Queue[i], now) {
			return i
		}
	}
	return -1
}

func (s State) anotherWaits(ses *Session, now time.Time, but int) bool {
	for i := range s.Queue {
		if i != but && s.sendable(ses, &s.Queue[i], now) {
			return true
		}
	}
	return false
}

func (s State) sendable(ses *Session, item *messages.Downlink, now time.Time) bool {
	switch {
	case len(item.ClassBC) > 0 || expired(item, now):
		return false
	case item.Encrypted:
		return encryptedFor(item, ses)
	}
	return !ses.AppSKey.IsZero()
}

// dropUnsendable takes the items from the head that no transmission can help any more.
func (s *State) dropUnsendable(p *Profile, ses *Session, room int, events []Event, cmd ReceiveUplink) []Event {
	next, expired := s.expire(p, cmd.Now, cmd.IDs)
	*s, events = next, append(events, expired...)
	for range maxFailures {
		i := s.head(ses, cmd.Now)
		if i < 0 {
			return events
		}
		item := s.Queue[i]
		var reason *messages.Error
		switch {
		case len(item.FRMPayload) > room:
			reason = messages.Invalid("application_downlink_too_long",
				"downlink of %d bytes does not fit: this device's windows carry %d bytes at its present data rate", len(item.FRMPayload), room)
		case item.Confirmed && item.Attempt >= item.MaxAttempts: // it was in flight when the device joined again
			reason = attemptsUsed(item)
		default:
			return events
		}
		s.removeAt(i)
		events = append(events, s.failed(p, ses, item, cmd.Now, cmd.IDs, reason))
	}
	return events
}

// removeAt takes an item out of the queue.
func (s *State) removeAt(i int) {
	if i == 0 {
		s.Queue = s.Queue[1:]
		return
	}
	s.Queue = slices.Delete(slices.Clone(s.Queue), i, i+1)
}

// inFlight is the place of the item that is in flight, -1 if there is none.
func (s State) inFlight() int {
	if s.InFlight == nil || s.InFlight.ItemID == "" {
		return -1
	}
	return slices.IndexFunc(s.Queue, func(q messages.Downlink) bool { return q.ID == s.InFlight.ItemID })
}

func (s State) failDownlinks(p *Profile, cmd FailDownlinks) (Decision, error) {
	next := s.named(cmd.Random)
	d := Decision{Next: next, Changed: next.Incarnation != s.Incarnation}
	for _, item := range cmd.Items {
		ev := next.downlinkEvent(p, messages.EventDownFailed, s.Session.orEmpty(), item, "refused", cmd.Now, cmd.IDs)
		ev.Err = cmd.Reason
		d.Events = append(d.Events, ev)
	}
	return d, nil
}

// downlinkEvent makes an event of an item. The id holds the attempt, so that each transmission of a confirmed item has its own.
func (s State) downlinkEvent(p *Profile, t messages.EventType, ses *Session, item messages.Downlink, what string, now time.Time, ids []string) Event {
	return Event{
		Type: t, ID: s.eventID(p, fmt.Sprintf("down:%s:%d:%s", item.ID, item.Attempt, what)), DevAddr: ses.DevAddr, SessionKeyID: ses.KeyID,
		CorrelationIDs: slices.Concat(item.CorrelationIDs, ids), Time: now, Downlink: &item, PayloadLocation: s.Location,
	}
}

func (s State) failed(p *Profile, ses *Session, item messages.Downlink, now time.Time, ids []string, reason *messages.Error) Event {
	ev := s.downlinkEvent(p, messages.EventDownFailed, ses, item, "failed", now, ids)
	ev.Err = reason
	return ev
}
