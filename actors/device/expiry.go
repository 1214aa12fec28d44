package device

import (
	"slices"
	"time"

	"lorikeet/messages"
)

func expired(item *messages.Downlink, now time.Time) bool {
	return !item.ExpiresAt.IsZero() && !item.ExpiresAt.After(now)
}

// NextExpiry is when the next item of the queue expires; ok is false if none will. An item in flight is left to its outcome.
func (s State) NextExpiry() (at time.Time, ok bool) {
	for i := range s.Queue {
		if s.InFlight == nil || s.InFlight.ItemID != s.Queue[i].ID {
			at = earlier(at, s.Queue[i].ExpiresAt)
		}
	}
	return at, !at.IsZero()
}

func (s State) expireDownlinks(p *Profile, cmd ExpireDownlinks) (Decision, error) {
	next, events := s.expire(p, cmd.Now, cmd.IDs)
	return Decision{Next: next, Changed: len(events) > 0, Events: events}, nil
}

// expire takes items out of the queue whose time is over, some at a time.
func (s State) expire(p *Profile, now time.Time, ids []string) (State, []Event) {
	if at, ok := s.NextExpiry(); !ok || at.After(now) {
		return s, nil
	}
	var events []Event
	ses, flying := s.current().orEmpty(), s.inFlight()
	left := slices.Grow([]messages.Downlink(nil), len(s.Queue))
	for i := range s.Queue {
		item := s.Queue[i]
		if i == flying || !expired(&item, now) || len(events) == maxFailures {
			left = append(left, item)
			continue
		}
		reason := messages.Errorf(messages.CodePrecondition, "downlink_expired", "downlink was not sent before it expired at %s", item.ExpiresAt.UTC().Format(time.RFC3339))
		events = append(events, s.failed(p, ses, item, now, ids, reason))
	}
	s.Queue = left
	return s, events
}
