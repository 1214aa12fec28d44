package device

import (
	"fmt"
	"slices"
	"time"

	"lorikeet/messages"
	"lorikeet/messages/frame"
)

const (
	// MaxQueue is how many downlinks wait for one device at most; MaxQueueBytes bounds their size.
	MaxQueue      = 10000
	MaxQueueBytes = 1 << 20
	// DefaultAttempts of a confirmed downlink, and the most that can be asked for.
	DefaultAttempts = 8
	MaxAttempts     = 32
	maxFOpts        = 15
	macPriority     = messages.Priority(5) // of what answers the network layer of the device
)

func (s State) pushDownlinks(p *Profile, cmd PushDownlinks) (Decision, error) {
	next := s.named(cmd.Random)
	ses := s.Session
	if ses == nil || !ses.Ready() {
		ses = s.Pending
	}
	if ses == nil || !ses.Ready() {
		return Decision{}, ErrNoSession
	}
	var queue []messages.Downlink
	if !cmd.Replace {
		queue = slices.Clone(s.Queue)
	} else if next.InFlight != nil {
		next.InFlight = &InFlight{SessionSeq: next.InFlight.SessionSeq, FCnt: next.InFlight.FCnt, Sent: next.InFlight.Sent}
	}
	events := make([]Event, 0, len(cmd.Items))
	for _, item := range cmd.Items {
		if err := validate(item); err != nil {
			return Decision{}, err
		}
		if s.queued(item.ID) && !cmd.Replace {
			continue // the request came twice, since its sender could not know that it had arrived
		}
		item.Attempt = 0
		if item.Confirmed && item.MaxAttempts == 0 {
			item.MaxAttempts = DefaultAttempts
		}
		queue = append(queue, item)
		item.FCnt, item.SessionKeyID = ses.NextFCntDown+uint32(len(queue)-1), ses.KeyID
		events = append(events, next.downlinkEvent(p, messages.EventDownQueued, ses, item, "queued", cmd.Now, cmd.IDs))
	}
	if size := queueBytes(queue); len(queue) > MaxQueue || size > MaxQueueBytes {
		return Decision{}, messages.Errorf(messages.CodeExhausted, "downlink_queue_capacity",
			"downlink queue would hold %d items of %d bytes: at most %d items and %d bytes; replace the queue, or wait until it was sent", len(queue), size, MaxQueue, MaxQueueBytes)
	}
	next.Queue = queue
	return Decision{Next: next, Changed: true, Events: events}, nil
}

// queued says whether an item is in the queue or was just sent, by its id, which is given once for each request.
func (s State) queued(id string) bool {
	return id != "" && s.InFlight != nil && s.InFlight.ItemID == id || id != "" && slices.ContainsFunc(s.Queue, func(q messages.Downlink) bool { return q.ID == id })
}

func validate(item messages.Downlink) error {
	switch {
	case item.FPort == 0 || item.FPort > 223:
		return messages.Invalid("no_f_port", "f_port %d: use 1 to 223", item.FPort)
	case len(item.FRMPayload) > 242:
		return messages.Invalid("application_downlink_too_long", "frm_payload has %d bytes: no data rate carries more than 242", len(item.FRMPayload))
	case item.MaxAttempts > MaxAttempts:
		return messages.Invalid("downlink_max_retries_invalid", "confirmed_retry.max_attempts %d: use 1 to %d", item.MaxAttempts, MaxAttempts)
	case len(item.ClassBC) > 0:
		return messages.Invalid("class_b_c", "class_b_c is not supported yet: leave it out, and the downlink is sent after the next uplink")
	}
	return nil
}

func queueBytes(queue []messages.Downlink) int {
	n := 0
	for _, d := range queue {
		n += 64 + len(d.ID) + len(d.FRMPayload) + len(d.DecodedPayload)
		for _, c := range d.CorrelationIDs {
			n += len(c)
		}
	}
	return n
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
		CorrelationIDs: append(slices.Clone(item.CorrelationIDs), ids...), Time: now, Downlink: &item,
	}
}

// settle closes the transmission in flight now that the device has spoken again: what was not reported counts as sent, and a confirmed item
// is acknowledged or not by the ACK bit (LoRaWAN 1.0.4 §4.3.1.2).
func (s State) settle(p *Profile, cmd *ReceiveUplink, ack bool) (State, []Event) {
	f := s.InFlight
	if f == nil {
		return s, nil
	}
	s.InFlight = nil
	if f.ItemID == "" || len(s.Queue) == 0 || s.Queue[0].ID != f.ItemID || f.SessionSeq != s.Session.Seq {
		return s, nil
	}
	item, ids := s.Queue[0], cmd.IDs
	item.FCnt, item.SessionKeyID = f.FCnt, s.Session.KeyID
	var events []Event
	if !f.Sent {
		events = append(events, s.downlinkEvent(p, messages.EventDownSent, s.Session, item, "sent", cmd.Now, ids))
	}
	if !item.Confirmed {
		s.Queue = s.Queue[1:]
		return s, events
	}
	if ack {
		s.Queue = s.Queue[1:]
		return s, append(events, s.downlinkEvent(p, messages.EventDownAck, s.Session, item, "ack", cmd.Now, ids))
	}
	events = append(events, s.downlinkEvent(p, messages.EventDownNack, s.Session, item, "nack", cmd.Now, ids))
	if item.Attempt >= item.MaxAttempts {
		s.Queue = s.Queue[1:]
		events = append(events, s.failed(p, s.Session, item, cmd.Now, ids, attemptsUsed(item)))
	}
	return s, events
}

func attemptsUsed(item messages.Downlink) *messages.Error {
	return messages.Errorf(messages.CodeExhausted, "max_retries_reached", "confirmed downlink was not acknowledged in %d attempts", item.Attempt)
}

func (s State) failed(p *Profile, ses *Session, item messages.Downlink, now time.Time, ids []string, reason *messages.Error) Event {
	ev := s.downlinkEvent(p, messages.EventDownFailed, ses, item, "failed", now, ids)
	ev.Err = reason
	return ev
}

func (s State) reportTransmission(p *Profile, cmd ReportTransmission) (Decision, error) {
	f := s.InFlight
	if f == nil || f.FCnt != cmd.FCnt || f.SessionSeq != cmd.SessionSeq || f.Sent || s.Session == nil || len(s.Queue) == 0 || s.Queue[0].ID != f.ItemID {
		return Decision{Next: s}, nil // an answer without an item, or settled meanwhile
	}
	next := s
	item := s.Queue[0]
	item.FCnt, item.SessionKeyID = f.FCnt, s.Session.KeyID
	sent := *f
	sent.Sent = true
	switch {
	case cmd.Missed:
		// Nothing went out: the item keeps its place for the next uplink. Its counter stays burnt.
		next.InFlight = nil
		next.Queue = slices.Clone(s.Queue)
		next.Queue[0].Attempt = max(item.Attempt, 1) - 1
		return Decision{Next: next, Changed: true}, nil
	case cmd.Err == messages.TxOK || cmd.Err == messages.TxUnanswered:
		ev := s.downlinkEvent(p, messages.EventDownSent, s.Session, item, "sent", cmd.Now, cmd.IDs)
		next.InFlight = &sent
		if !item.Confirmed {
			next.InFlight, next.Queue = nil, s.Queue[1:]
		}
		return Decision{Next: next, Changed: true, Events: []Event{ev}}, nil
	case item.Confirmed && item.Attempt < item.MaxAttempts:
		next.InFlight = nil
		return Decision{Next: next, Changed: true}, nil
	}
	next.InFlight, next.Queue = nil, s.Queue[1:]
	reason := messages.Errorf(messages.CodeUnavailable, "transmission", "radio gateway did not send: %s", cmd.Err)
	return Decision{Next: next, Changed: true, Events: []Event{s.failed(p, s.Session, item, cmd.Now, cmd.IDs, reason)}}, nil
}

// takeFCntDown spends the next counter. No counter is ever given twice under one key (LoRaWAN 1.0.4 §4.3.1.3).
func (s *Session) takeFCntDown(p *Profile) (uint32, bool) {
	limit := uint32(0xffff_ffff)
	if p.FCnt16 {
		limit = 0xffff
	}
	if s.FCntDownSpent || s.NextFCntDown > limit {
		return 0, false
	}
	fCnt := s.NextFCntDown
	if fCnt == limit {
		s.FCntDownSpent = true
	} else {
		s.NextFCntDown++
	}
	return fCnt, true
}

// sizedWindow is a receive window and what fits into it.
type sizedWindow struct {
	Window
	room int // bytes of FRMPayload and FOpts together
}

func windowsOf(sized []sizedWindow) []Window {
	out := make([]Window, len(sized))
	for i := range sized {
		out[i] = sized[i].Window
	}
	return out
}

// windows are RX1 and RX2 of an uplink (LoRaWAN 1.0.4 §3.3). A window that the region does not define for this uplink is left out.
func (p *Profile) windows(ses *Session, up messages.TxSettings) []sizedWindow {
	var out []sizedWindow
	delay := time.Duration(max(ses.RX1Delay, 1)) * time.Second
	if dr, err := p.Region.uplinkDR(up.DataRate); err == nil {
		frequency, errF := p.Region.band.GetRX1FrequencyForUplinkFrequency(uint32(up.Frequency))
		rx1, errDR := p.Region.band.GetRX1DataRateIndex(dr, int(ses.RX1DROffset))
		if errF == nil && errDR == nil {
			out = p.addWindow(out, delay, frequency, rx1)
		}
	}
	return p.addWindow(out, delay+time.Second, ses.RX2Frequency, int(ses.RX2DR))
}

func (p *Profile) addWindow(out []sizedWindow, delay time.Duration, frequency uint32, dr int) []sizedWindow {
	rate, err := p.Region.downlinkDR(dr)
	if err != nil {
		return out
	}
	return append(out, sizedWindow{
		Window: Window{Delay: delay, Frequency: frequency, DataRate: rate, Power: p.Region.power(frequency)},
		room:   p.Region.maxPayload(p.Version, dr),
	})
}

// answer builds the downlink that an accepted uplink asks for, if any, and takes its counter. Items that no window can carry leave the queue
// with an event, never in silence.
func (s *State) answer(p *Profile, ses *Session, o Opened, mac [][]byte, copies []messages.Frame, events []Event, cmd ReceiveUplink) (*Transmit, []Event) {
	windows := p.windows(ses, copies[0].Settings)
	room := 0
	for _, w := range windows {
		room = max(room, w.room)
	}
	for len(s.Queue) > 0 && len(s.Queue[0].FRMPayload) > room && len(windows) > 0 {
		item := s.Queue[0]
		s.Queue = s.Queue[1:]
		events = append(events, s.failed(p, ses, item, cmd.Now, cmd.IDs, messages.Invalid("application_downlink_too_long",
			"downlink of %d bytes does not fit: this device's windows carry %d bytes at its present data rate", len(item.FRMPayload), room)))
	}
	// An item that was in flight when the device joined again may have no attempt left.
	if len(s.Queue) > 0 && s.InFlight == nil && s.Queue[0].Confirmed && s.Queue[0].Attempt >= s.Queue[0].MaxAttempts {
		item := s.Queue[0]
		s.Queue = s.Queue[1:]
		events = append(events, s.failed(p, ses, item, cmd.Now, cmd.IDs, attemptsUsed(item)))
	}
	fOpts, masked := joinFOpts(mac), false
	if mask := p.channelMask(ses, copies[0].Settings); len(mask) > 0 && len(fOpts)+len(mask) <= maxFOpts {
		fOpts, masked = append(fOpts, mask...), true
	}
	item := (*messages.Downlink)(nil)
	if len(s.Queue) > 0 && !ses.AppSKey.IsZero() && len(s.Queue[0].FRMPayload)+len(fOpts) <= room {
		head := s.Queue[0]
		item = &head
	}
	if item == nil && len(fOpts) == 0 && !o.Data.Confirmed() && !o.Data.ADRACKReq || len(windows) == 0 {
		return nil, events
	}
	fCnt, ok := ses.takeFCntDown(p)
	if !ok {
		if item != nil {
			s.Queue = s.Queue[1:]
			events = append(events, s.failed(p, ses, *item, cmd.Now, cmd.IDs, ErrExhausted))
		}
		return nil, events
	}
	if masked {
		ses.ChannelMaskTries++
	}
	down := frame.Downlink{ACK: o.Data.Confirmed(), DevAddr: ses.DevAddr, FCnt: p.onAir(fCnt), FOpts: fOpts, FPending: len(s.Queue) > 0}
	t := &Transmit{SessionSeq: ses.Seq, FCnt: fCnt, Candidates: copies, Priority: macPriority}
	size := len(fOpts)
	if item != nil {
		item.Attempt++
		s.Queue = slices.Clone(s.Queue)
		s.Queue[0] = *item
		s.InFlight = &InFlight{ItemID: item.ID, SessionSeq: ses.Seq, FCnt: fCnt}
		down.Confirmed, down.HasFPort, down.FPort, down.FRMPayload = item.Confirmed, true, item.FPort, item.FRMPayload
		down.FPending = len(s.Queue) > 1
		t.Priority = item.Priority
		size += len(item.FRMPayload)
	}
	t.PHYPayload = down.Build(frame.NewCipher(ses.NwkSKey), frame.NewCipher(ses.AppSKey))
	t.Windows = windowsOf(slices.DeleteFunc(windows, func(w sizedWindow) bool { return w.room < size }))
	return t, events
}

func joinFOpts(commands [][]byte) []byte {
	var out []byte
	for _, c := range commands {
		if len(out)+len(c) > maxFOpts {
			break
		}
		out = append(out, c...)
	}
	return out
}
