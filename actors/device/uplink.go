package device

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"lorikeet/messages"
	"lorikeet/messages/frame"
)

// maxFCntGap is MAX_FCNT_GAP of LoRaWAN before 1.0.4 (1.0.3 §4.3.1.5).
const maxFCntGap = 16384

// Opened is an uplink that belongs to a session of the device, decrypted.
type Opened struct {
	Data       frame.Data
	FCnt       uint32 // 32 bits, also for a device that sends only 16
	FRMPayload []byte // in clear, or as received if payload crypto is skipped; nil if there is none
	Repetition bool   // of the last uplink
	pending    bool
	reset      bool
}

// Application says whether the payload is for the application rather than MAC commands or nothing.
func (o Opened) Application() bool { return o.Data.HasFPort && o.Data.FPort != 0 }

// Before says whether the counters tell that the device sent o before other, both opened in the same state.
func (o Opened) Before(other Opened) bool {
	switch {
	case o.pending != other.pending:
		return other.pending
	case o.reset || other.reset:
		return false
	}
	return o.FCnt < other.FCnt
}

// Open finds the session of an uplink and decrypts it, so that decoding can start before all copies are in. It refuses what Decide would refuse.
func Open(s State, p *Profile, phy []byte) (Opened, error) {
	d, err := frame.ParseData(phy)
	if err != nil || (d.MType != frame.UnconfirmedDataUp && d.MType != frame.ConfirmedDataUp) {
		return Opened{}, ErrMalformed
	}
	refusal := error(ErrNoSession)
	for i, ses := range []*Session{s.Session, s.Pending} {
		if ses == nil || !ses.Ready() || ses.DevAddr != d.DevAddr {
			continue
		}
		o, err := ses.open(p, d, phy)
		if err == nil {
			o.pending = i == 1
			return o, nil
		}
		if refusal == error(ErrNoSession) || err != ErrMIC {
			refusal = err
		}
	}
	return Opened{}, refusal
}

// Ready says whether the session can take uplinks.
func (s *Session) Ready() bool { return !s.NwkSKey.IsZero() && !s.DevAddr.IsZero() }

func (s *Session) open(p *Profile, d frame.Data, phy []byte) (Opened, error) {
	nwk := frame.NewCipher(s.NwkSKey)
	fCnt, ok := frame.NextFCnt(s.LastFCntUp, s.HasFCntUp, d.FCnt16)
	reset := false
	if !ok || !nwk.CheckUp(s.DevAddr, p.onAir(fCnt), phy) {
		// [LoRaWAN 1.0.4 §4.3.1.5] an ABP device shall not reset its counter; for those that do, the operator opts in per device.
		reset = p.mayReset() && nwk.CheckUp(s.DevAddr, uint32(d.FCnt16), phy)
		if !reset {
			if !ok {
				return Opened{}, ErrExhausted
			}
			// An older frame carries a good MIC under an earlier value; it is told apart only to be counted rightly.
			if old := s.LastFCntUp&^0xffff | uint32(d.FCnt16); s.HasFCntUp && old < s.LastFCntUp && nwk.CheckUp(s.DevAddr, p.onAir(old), phy) {
				return Opened{}, ErrReplay
			}
			return Opened{}, ErrMIC
		}
		fCnt = uint32(d.FCnt16)
	}
	mic := [4]byte(phy[len(phy)-4:])
	o := Opened{Data: d, FCnt: fCnt, reset: reset}
	switch {
	case s.HasFCntUp && fCnt == s.LastFCntUp && mic == s.LastMIC:
		o.Repetition, o.reset = true, false
	case s.HasFCntUp && fCnt == s.LastFCntUp && p.mayReset():
		o.reset = true
	case s.HasFCntUp && fCnt == s.LastFCntUp:
		return Opened{}, ErrReplay
	// A device that counts 16 bits has no other defence against frames of its last turn.
	case !reset && (p.Version < 4 || p.FCnt16) && s.HasFCntUp && fCnt-s.LastFCntUp > maxFCntGap:
		// Its counter after a reset is also one of its next turn, which is too far ahead: the MIC can't tell them apart.
		if !p.mayReset() || p.onAir(fCnt) != uint32(d.FCnt16) {
			return Opened{}, ErrGap
		}
		fCnt = uint32(d.FCnt16)
		o.FCnt, o.reset = fCnt, true
	}
	switch {
	case !d.HasFPort:
	case d.FPort == 0:
		o.FRMPayload = nwk.Crypt(false, s.DevAddr, p.onAir(fCnt), d.FRMPayload)
	case p.SkipCrypto:
		o.FRMPayload = d.FRMPayload
	case !s.AppSKey.IsZero():
		o.FRMPayload = frame.NewCipher(s.AppSKey).Crypt(false, s.DevAddr, p.onAir(fCnt), d.FRMPayload)
	}
	return o, nil
}

// mayReset: only an ABP device can start again at FCnt 0 under its old keys.
func (p *Profile) mayReset() bool { return p.ResetsFCnt && !p.SupportsJoin }

// onAir is the counter as the device uses it in the MIC and the key stream.
func (p *Profile) onAir(fCnt uint32) uint32 {
	if p.FCnt16 {
		return fCnt & 0xffff
	}
	return fCnt
}

// sorted gives the copies with the best signal first, and all their receptions.
func sorted(copies []messages.Frame) ([]messages.Frame, []messages.RxMetadata) {
	copies = slices.Clone(copies)
	slices.SortStableFunc(copies, func(a, b messages.Frame) int { return cmp.Compare(bestSNR(b), bestSNR(a)) })
	var rx []messages.RxMetadata
	for _, c := range copies {
		rx = append(rx, c.Rx...)
	}
	return copies, rx
}

func bestSNR(f messages.Frame) float32 {
	best := float32(-1000)
	for i := range f.Rx {
		// RSSI breaks ties of the SNR, which saturates near the radio gateway.
		best = max(best, f.Rx[i].SNR+f.Rx[i].RSSI/1000)
	}
	return best
}

func (s State) receiveUplink(p *Profile, cmd ReceiveUplink) (Decision, error) {
	o, err := Open(s, p, cmd.Copies[0].PHYPayload)
	if err != nil {
		return Decision{}, err
	}
	next := s.named(cmd.Random)
	ses := *s.Session.orEmpty()
	var events []Event
	if o.pending {
		// [LoRaWAN 1.0.4 §6.2.6] the first uplink proves that the device has the new keys; only now the old session goes.
		ses, next.Pending, next.InFlight = *s.Pending, nil, nil
		next.ActivatedAt = cmd.Now
		events = next.invalidateForeign(p, &ses, cmd.Now, cmd.IDs)
	}
	copies, rx := sorted(cmd.Copies)
	if o.Repetition {
		return next.repeatAnswer(p, o, ses, copies, rx, cmd)
	}
	ses.accept(o, cmd.Copies[0].PHYPayload)
	next.Session, next.LastSeenAt = &ses, cmd.Now
	next.Hears = heard(s.Hears, rx, cmd.Late)

	next, settled := next.settle(p, &cmd, o.Data.ACK)
	mac := answerMAC(readMACCommands(o, &ses, &next, cmd.Now), copies[0].Settings, rx, cmd.Copies[0].ReceivedAt)
	up := next.uplinkEvent(p, o, &ses, cmd, copies, rx)
	if cmd.Location != nil && !p.SkipCrypto {
		events = append(events, locationEvent(up, cmd.Location))
		next.Location = cmd.Location
	}
	d := Decision{Changed: true}
	d.Transmit, events = next.answer(p, &ses, o, mac, copies, append(events, settled...), cmd)
	if p.SkipCrypto {
		up.AppSKey, up.LastFCntDown = ses.AppSKey, next.lastFCntDown(&ses)
	}
	events = append([]Event{up}, events...)
	next.Session = &ses
	d.Next, d.Events = next, events
	return d, nil
}

func (s *Session) orEmpty() *Session {
	if s == nil {
		return &Session{}
	}
	return s
}

// RepeatsAfter is the time from an uplink to its second receive window: before that no device sends it again (LoRaWAN 1.0.4 §4.3.1.3).
func (s State) RepeatsAfter() time.Duration {
	return time.Duration(max(s.Session.orEmpty().RX1Delay, 1)+1) * time.Second
}

// accept takes the uplink's counter.
func (s *Session) accept(o Opened, phy []byte) {
	if o.reset {
		s.Resets++
		s.RecentFCntUp = nil
		s.ChannelMaskDone, s.ChannelMaskTries = false, 0 // it has forgotten that too
	}
	s.HasFCntUp, s.LastFCntUp, s.LastMIC, s.Repeats = true, o.FCnt, [4]byte(phy[len(phy)-4:]), 0
	recent := s.RecentFCntUp
	if len(recent) >= 20 {
		recent = recent[len(recent)-19:]
	}
	s.RecentFCntUp = append(slices.Clone(recent), o.FCnt)
}

// packetErrorRate is the share of lost uplinks among the newest 20 counters.
func (s *Session) packetErrorRate() float32 {
	n := len(s.RecentFCntUp)
	if n < 2 {
		return 0
	}
	span := s.RecentFCntUp[n-1] - s.RecentFCntUp[0] + 1
	return 1 - float32(n)/float32(span)
}

// repeatAnswer acknowledges a repeated confirmed uplink again, with a counter of its own, and never makes a second event
// (LoRaWAN 1.0.4 §4.3.1.3). What it asked for by MAC command is answered again too.
func (s State) repeatAnswer(p *Profile, o Opened, ses Session, copies []messages.Frame, rx []messages.RxMetadata, cmd ReceiveUplink) (Decision, error) {
	if !o.Data.Confirmed() {
		return Decision{}, ErrRepetition
	}
	if ses.Repeats >= p.Version.repeatLimit() {
		return Decision{}, ErrReplay
	}
	ses.Repeats++
	fCnt, ok := ses.takeFCntDown(p, nil)
	if !ok {
		return Decision{}, ErrRepetition
	}
	s.Session = &ses
	events := s.invalidateSpent(p, &ses, cmd.Now, cmd.IDs)
	known := ses // its MAC answers were taken in when it came first
	asked := readMACCommands(o, &known, &State{}, copies[0].ReceivedAt)
	down := frame.Downlink{
		ACK: true, DevAddr: ses.DevAddr, FCnt: p.onAir(fCnt), FPending: s.head(&ses, cmd.Now) >= 0,
		FOpts: joinFOpts(answerMAC(asked, copies[0].Settings, rx, copies[0].ReceivedAt)),
	}
	phy := down.Build(frame.NewCipher(ses.NwkSKey), frame.NewCipher(ses.AppSKey))
	return Decision{Next: s, Changed: true, Events: events, Transmit: &Transmit{
		SessionSeq: ses.Seq, FCnt: fCnt, PHYPayload: phy, Windows: windowsOf(p.windows(&ses, copies[0].Settings)), Candidates: copies,
		Priority: macPriority,
	}}, nil
}

func (s State) uplinkEvent(p *Profile, o Opened, ses *Session, cmd ReceiveUplink, copies []messages.Frame, rx []messages.RxMetadata) Event {
	u := &UplinkEvent{
		FCnt: p.onAir(o.FCnt), Confirmed: o.Data.Confirmed(), Settings: copies[0].Settings, Rx: rx, ReceivedAt: cmd.Copies[0].ReceivedAt,
		PHYPayloadSize: len(copies[0].PHYPayload), PacketErrorRate: ses.packetErrorRate(), Battery: s.Battery,
	}
	if o.Application() {
		u.FPort, u.FRMPayload = o.Data.FPort, o.FRMPayload
		if !p.SkipCrypto { // it may be skipped since the decoding began
			u.Decoded, u.DecodeError = cmd.Decoded, cmd.Err
		}
	}
	ids := make([]string, 0, len(cmd.IDs)+1)
	ids = append(append(ids, cmd.IDs...), copies[0].CorrelationID)
	return Event{
		Type: messages.EventUplink, ID: s.eventID(p, fmt.Sprintf("%d.%d:%d:up", ses.Seq, ses.Resets, o.FCnt)), DevAddr: ses.DevAddr,
		SessionKeyID: ses.KeyID, CorrelationIDs: ids, Time: cmd.Now, Uplink: u, PayloadLocation: s.Location,
	}
}

// locationEvent says where the decoded payload of up tells that the device is.
func locationEvent(up Event, at *messages.Location) Event {
	return Event{
		Type: messages.EventLocationSolved, ID: up.ID + ":location", DevAddr: up.DevAddr, SessionKeyID: up.SessionKeyID, CorrelationIDs: up.CorrelationIDs,
		Time: up.Time, Location: at,
	}
}

// Scores of GatewayHabit: a radio gateway that heard the last uplinks stands at 255, loses a quarter with each uplink it misses,
// and is expected while it is above usual.
const usual = 100

func heard(before []GatewayHabit, rx []messages.RxMetadata, late []messages.EUI64) []GatewayHabit {
	now := make([]GatewayHabit, 0, len(before)+1)
	add := func(e messages.EUI64) {
		if !slices.ContainsFunc(now, func(h GatewayHabit) bool { return h.EUI == e }) {
			now = append(now, GatewayHabit{EUI: e, Score: 255})
		}
	}
	for i := range rx {
		add(rx[i].GatewayEUI)
	}
	for _, e := range late {
		add(e)
	}
	for _, h := range before {
		if slices.ContainsFunc(now, func(n GatewayHabit) bool { return n.EUI == h.EUI }) {
			continue
		}
		if h.Score -= h.Score / 4; h.Score >= usual {
			now = append(now, h)
		}
	}
	return now[:min(len(now), 50)]
}

// AllReported says whether every radio gateway that usually hears the device is among the copies: then nothing is gained by waiting.
// Before the first uplink nothing is known, and it is false.
func (s State) AllReported(copies []messages.Frame) bool {
	if len(s.Hears) == 0 {
		return false
	}
	for _, h := range s.Hears {
		if !slices.ContainsFunc(copies, func(c messages.Frame) bool { return len(c.Rx) > 0 && c.Rx[0].GatewayEUI == h.EUI }) {
			return false
		}
	}
	return true
}
