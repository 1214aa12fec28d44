package device

import (
	"encoding/binary"
	"math"
	"slices"
	"time"

	"lorikeet/messages"
)

// Restore takes over what the device was on another server. Nothing here goes back: of what both know, whichever is further on stays.
type Restore struct {
	From State // sessions without receive windows (RX1Delay 0) get those of the profile

	// FCntDownStep is how much further the downlink counters of new sessions begin: as many as the other server may have used since From was read.
	FCntDownStep uint32
	Now          time.Time
	Random       string
}

func (Restore) command() {}

// restore keeps the sessions that are here if the device has joined here since it left the other server.
func (s State) restore(p *Profile, cmd Restore) (Decision, error) {
	from := cmd.From
	for _, ses := range []*Session{from.Session, from.Pending} {
		if ses != nil && ses.DevAddr.IsZero() {
			return Decision{}, messages.Invalid("no_dev_addr", "session.dev_addr is missing: 8 hex digits")
		}
	}
	if size := QueueBytes(from.Queue); len(from.Queue) > MaxQueue || size > MaxQueueBytes {
		return Decision{}, messages.Errorf(messages.CodeExhausted, "downlink_queue_capacity",
			"the queue holds %d items of %d bytes: at most %d items and %d bytes", len(from.Queue), size, MaxQueue, MaxQueueBytes)
	}
	next := s.named(cmd.Random)
	next.HasDevNonce = s.HasDevNonce || from.HasDevNonce
	next.LastDevNonce = max(s.LastDevNonce, from.LastDevNonce)
	next.UsedDevNonces = mergeNonces(s.UsedDevNonces, from.UsedDevNonces)
	next.LastJoinNonce = max(s.LastJoinNonce, from.LastJoinNonce)
	if next.LastSeenAt.Before(from.LastSeenAt) {
		next.LastSeenAt = from.LastSeenAt
	}
	if s.LastJoinNonce > from.LastJoinNonce && (s.Session != nil || s.Pending != nil) {
		return Decision{Next: next, Changed: true}, nil
	}
	if next.ActivatedAt.IsZero() || !from.ActivatedAt.IsZero() {
		next.ActivatedAt = from.ActivatedAt
	}
	if from.Session != nil {
		next.Session = next.adopt(p, s.Session, from.Session, cmd)
		if s.Session == nil || next.Session.Seq != s.Session.Seq {
			next.InFlight = nil
		}
	}
	if from.Pending != nil {
		next.Pending = next.adopt(p, s.Pending, from.Pending, cmd)
	}
	if len(next.Queue) == 0 {
		next.Queue = imported(p, from.Queue)
	}
	if next.Battery == nil {
		next.Battery = from.Battery
	}
	var events []Event
	if ses := next.Session; ses != nil {
		void := next.takeEncrypted(func(item *messages.Downlink) bool {
			return !encryptedFor(item, ses) && (next.Pending == nil || !encryptedFor(item, next.Pending))
		})
		events = append(next.invalidated(p, ses, void, cmd.Now, nil), next.invalidateSpent(p, ses, cmd.Now, nil)...)
	}
	return Decision{Next: next, Changed: true, Events: events}, nil
}

// imported gives the items of another server's queue what this one decides about them.
func imported(p *Profile, queue []messages.Downlink) []messages.Downlink {
	queue = slices.Clone(queue)
	for i := range queue {
		item := &queue[i]
		item.ExpiresAt, item.AbsoluteTime, item.TimeToLive = earlier(item.ExpiresAt, item.AbsoluteTime), time.Time{}, 0
		if item.Encrypted = p.SkipCrypto; !item.Encrypted {
			item.FCnt, item.SessionKeyID = 0, nil
		}
	}
	return queue
}

// adopt gives the session that the device has from now on, where it had old. s is changed: it counts sessions.
func (s *State) adopt(p *Profile, old, from *Session, cmd Restore) *Session {
	ses := *from
	ses.Seq, ses.LastMIC, ses.Repeats = 0, [4]byte{}, 0
	ses.NextFCntDown, ses.FCntDownSpent = raised(from.NextFCntDown, cmd.FCntDownStep, from.FCntDownSpent)
	if old != nil && old.DevAddr == from.DevAddr && old.NwkSKey == from.NwkSKey && old.AppSKey == from.AppSKey {
		ses.Seq, ses.StartedAt = old.Seq, old.StartedAt
		ses.FCntDownSpent = ses.FCntDownSpent || old.FCntDownSpent
		ses.NextFCntDown = max(ses.NextFCntDown, old.NextFCntDown)
		if old.HasFCntUp && (!ses.HasFCntUp || old.LastFCntUp >= ses.LastFCntUp) { // what it did here is the newer part of its life
			next, spent := ses.NextFCntDown, ses.FCntDownSpent
			ses = *old
			ses.NextFCntDown, ses.FCntDownSpent = next, spent
		}
	}
	if ses.Seq == 0 {
		s.SessionSeq++
		ses.Seq = s.SessionSeq
	}
	if ses.StartedAt.IsZero() {
		ses.StartedAt = cmd.Now
	}
	if ses.RX1Delay == 0 {
		ses.RX1Delay, ses.RX1DROffset = max(p.RX1Delay, 1), p.rx1DROffset()
		ses.RX2DR, ses.RX2Frequency = p.Region.rx2Default()
		ses.RX2DR = p.rx2DR(ses.RX2DR)
		if p.RX2Frequency != 0 {
			ses.RX2Frequency = p.RX2Frequency
		}
	}
	ses.FCnt16, ses.ResetsFCnt = p.FCnt16, p.mayReset()
	return &ses
}

// raised moves a downlink counter forward, and never past its end.
func raised(next, step uint32, spent bool) (uint32, bool) {
	if spent || next > math.MaxUint32-step {
		return math.MaxUint32, true
	}
	return next + step, false
}

// mergeNonces joins two sorted lists of two bytes each.
func mergeNonces(a, b []byte) []byte {
	if len(b) == 0 {
		return a
	}
	nonces := make([]uint16, 0, (len(a)+len(b))/2)
	for _, list := range [][]byte{a, b} {
		for i := 0; i+1 < len(list); i += 2 {
			nonces = append(nonces, binary.BigEndian.Uint16(list[i:]))
		}
	}
	slices.Sort(nonces)
	out := make([]byte, 0, 2*len(nonces))
	for _, n := range slices.Compact(nonces) {
		out = binary.BigEndian.AppendUint16(out, n)
	}
	return out
}
