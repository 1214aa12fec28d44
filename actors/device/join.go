package device

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"sort"
	"time"

	"github.com/brocaar/lorawan"

	"lorikeet/messages"
	"lorikeet/messages/frame"
)

// maxJoinNonce is the last value of the 24-bit JoinNonce.
const maxJoinNonce = 1<<24 - 1

func (s State) receiveJoin(p *Profile, cmd ReceiveJoin) (Decision, error) {
	phy := cmd.Copies[0].PHYPayload
	req, err := frame.ParseJoin(phy)
	switch {
	case err != nil:
		return Decision{}, ErrMalformed
	case !p.SupportsJoin:
		return Decision{}, ErrNoJoin
	case p.AppKey.IsZero():
		return Decision{}, ErrNoKey
	case !frame.NewCipher(p.AppKey).CheckJoin(phy):
		return Decision{}, ErrMIC
	case !p.ResetsJoinNonces && s.devNonceUsed(p, req.DevNonce):
		return Decision{}, ErrDevNonce
	case s.LastJoinNonce >= maxJoinNonce:
		return Decision{}, ErrJoinNonce
	}
	next := s.named(cmd.Random).useDevNonce(p, req.DevNonce)
	next.LastJoinNonce++ // [LoRaWAN 1.0.4 §6.2.6] a counter that never repeats; committed before the accept leaves
	next.SessionSeq++
	ses := p.newSession(next.SessionSeq, cmd)
	ses.NwkSKey, ses.AppSKey = frame.SessionKeys(p.AppKey, next.LastJoinNonce, p.NetID, req.DevNonce)
	next.Pending = ses
	copies, rx := sorted(cmd.Copies)
	// What was encrypted for the old keys can't be sent under the new ones; the join-accept tells the application, as The Things Stack does.
	void, more := takeAnnounced(next.takeEncrypted(func(*messages.Downlink) bool { return true }))
	next.Hears = heard(s.Hears, rx, nil) // so that the first uplink need not wait for the whole window
	accept, err := p.joinAccept(ses, next.LastJoinNonce, req)
	if err != nil {
		return Decision{}, fmt.Errorf("join-accept: %w", err)
	}
	ids := append(append([]string{}, cmd.IDs...), copies[0].CorrelationID)
	join := Event{
		Type: messages.EventJoin, ID: next.eventID(p, fmt.Sprintf("%d:join", ses.Seq)), DevAddr: ses.DevAddr, SessionKeyID: ses.KeyID,
		CorrelationIDs: ids, Time: cmd.Now, PayloadLocation: s.Location, Invalidated: void, ReceivedAt: cmd.Copies[0].ReceivedAt,
	}
	if p.SkipCrypto {
		join.AppSKey = ses.AppSKey
	}
	return Decision{
		Next: next, Changed: true, Events: append([]Event{join}, next.invalidated(p, ses, more, cmd.Now, ids)...),
		Transmit: &Transmit{SessionSeq: ses.Seq, Join: true, PHYPayload: accept, Windows: windowsOf(p.joinWindows(copies[0].Settings)), Candidates: copies,
			Priority: messages.Priority(6)},
	}, nil
}

// devNonceUsed: from LoRaWAN 1.0.4 on the DevNonce is a counter that must grow (§6.2.5); before, every value is good for one join (1.0.3 §6.2.4).
func (s State) devNonceUsed(p *Profile, nonce uint16) bool {
	if p.Version >= 4 {
		return s.HasDevNonce && nonce <= s.LastDevNonce
	}
	i := s.nonceIndex(nonce)
	return i < len(s.UsedDevNonces)/2 && binary.BigEndian.Uint16(s.UsedDevNonces[2*i:]) == nonce
}

func (s State) nonceIndex(nonce uint16) int {
	return sort.Search(len(s.UsedDevNonces)/2, func(i int) bool { return binary.BigEndian.Uint16(s.UsedDevNonces[2*i:]) >= nonce })
}

func (s State) useDevNonce(p *Profile, nonce uint16) State {
	used := s.devNonceUsed(p, nonce)
	s.HasDevNonce, s.LastDevNonce = true, nonce
	if p.Version < 4 && !used {
		i := 2 * s.nonceIndex(nonce)
		s.UsedDevNonces = bytes.Join([][]byte{s.UsedDevNonces[:i], binary.BigEndian.AppendUint16(nil, nonce), s.UsedDevNonces[i:]}, nil)
	}
	return s
}

func (p *Profile) newSession(seq uint32, cmd ReceiveJoin) *Session {
	ses := &Session{
		Seq: seq, KeyID: cmd.SessionKeyID, DevAddr: cmd.DevAddr, StartedAt: cmd.Now,
		RX1Delay: max(p.DesiredRX1Delay, 1), RX1DROffset: p.rx1DROffset(), RX2DR: p.rx2DR(p.Region.rx2DR),
	}
	_, ses.RX2Frequency = p.Region.rx2Default() // the join-accept can't carry another frequency
	ses.ChannelMaskDone = p.Version >= 3
	ses.FCnt16, ses.ResetsFCnt = p.FCnt16, p.mayReset()
	return ses
}

func (p *Profile) joinAccept(ses *Session, joinNonce uint32, req frame.Join) ([]byte, error) {
	payload := &lorawan.JoinAcceptPayload{
		JoinNonce: lorawan.JoinNonce(joinNonce), HomeNetID: p.NetID, DevAddr: lorawan.DevAddr(ses.DevAddr), RXDelay: ses.RX1Delay,
		DLSettings: lorawan.DLSettings{RX2DataRate: ses.RX2DR, RX1DROffset: ses.RX1DROffset},
	}
	payload.CFList = p.Region.band.GetCFList(p.Version.String())
	phy := lorawan.PHYPayload{MHDR: lorawan.MHDR{MType: lorawan.JoinAccept}, MACPayload: payload}
	if err := phy.SetDownlinkJoinMIC(lorawan.JoinRequestType, lorawan.EUI64(req.JoinEUI), lorawan.DevNonce(req.DevNonce), lorawan.AES128Key(p.AppKey)); err != nil {
		return nil, err
	}
	if err := phy.EncryptJoinAcceptPayload(lorawan.AES128Key(p.AppKey)); err != nil {
		return nil, err
	}
	return phy.MarshalBinary()
}

// joinWindows are RX1 5 s and RX2 6 s after the join-request, with the region's own parameters (RP002-1.0.4 §2.4.6).
func (p *Profile) joinWindows(up messages.TxSettings) []sizedWindow {
	d := p.Region.band.GetDefaults()
	ses := &Session{RX1Delay: uint8(d.JoinAcceptDelay1 / time.Second)}
	ses.RX2DR, ses.RX2Frequency = p.Region.rx2Default()
	return p.windows(ses, up)
}

// setSession installs an activation from outside. The same session (address and keys) keeps its counters if they are further on: they never go back.
func (s State) setSession(p *Profile, cmd SetSession) (Decision, error) {
	next := s.named(cmd.Random)
	if cmd.DevAddr.IsZero() {
		return Decision{}, messages.Invalid("no_dev_addr", "session.dev_addr is missing: 8 hex digits")
	}
	ses := Session{DevAddr: cmd.DevAddr, StartedAt: cmd.Now, RX1Delay: max(p.RX1Delay, 1), RX1DROffset: p.rx1DROffset()}
	ses.RX2DR, ses.RX2Frequency = p.Region.rx2Default()
	ses.RX2DR = p.rx2DR(ses.RX2DR)
	if p.RX2Frequency != 0 {
		ses.RX2Frequency = p.RX2Frequency
	}
	var void []messages.Downlink
	old := s.Session.orEmpty()
	same := old.DevAddr == cmd.DevAddr && agree(old.NwkSKey, cmd.NwkSKey) && agree(old.AppSKey, cmd.AppSKey)
	if same {
		ses = *old
	} else {
		next.SessionSeq++
		ses.Seq = next.SessionSeq
		next.InFlight = nil
		void = next.takeEncrypted(func(*messages.Downlink) bool { return true })
	}
	if !cmd.NwkSKey.IsZero() {
		ses.NwkSKey = cmd.NwkSKey
	}
	if !cmd.AppSKey.IsZero() {
		ses.AppSKey = cmd.AppSKey
	}
	if len(cmd.KeyID) > 0 {
		ses.KeyID = cmd.KeyID
	}
	if cmd.HasFCntUp && (!ses.HasFCntUp || cmd.LastFCntUp > ses.LastFCntUp) {
		ses.HasFCntUp, ses.LastFCntUp, ses.LastMIC = true, cmd.LastFCntUp, [4]byte{}
	}
	// "last 0" may mean that counter 0 was used or that none was: skipping it costs nothing, using it twice would.
	if cmd.LastFCntDown == math.MaxUint32 {
		ses.NextFCntDown, ses.FCntDownSpent = math.MaxUint32, true
	}
	ses.NextFCntDown = max(ses.NextFCntDown, cmd.LastFCntDown+1)
	ses.FCnt16, ses.ResetsFCnt = p.FCnt16, p.mayReset()
	next.Session = &ses
	events := next.invalidated(p, &ses, void, cmd.Now, cmd.IDs)
	return Decision{Next: next, Changed: true, Events: append(events, next.invalidateSpent(p, &ses, cmd.Now, cmd.IDs)...)}, nil
}

func agree(a, b messages.Key) bool { return a.IsZero() || b.IsZero() || a == b }

// reset forgets what the radio has taught. A session that was set from outside stays, with its FCntDown: its keys are still in use.
func (s State) reset(p *Profile) (Decision, error) {
	s.Pending, s.Queue, s.InFlight, s.Hears, s.Battery, s.Location = nil, nil, nil, nil, nil, nil
	if p.SupportsJoin {
		s.Session = nil
	} else if s.Session != nil {
		ses := *s.Session
		ses.HasFCntUp, ses.LastFCntUp, ses.RecentFCntUp, ses.Repeats = false, 0, nil, 0
		ses.Resets++
		s.Session = &ses
	}
	return Decision{Next: s, Changed: true}, nil
}

func (s State) applyProfile(p *Profile) (Decision, error) {
	d := Decision{Next: s}
	for _, ses := range []**Session{&d.Next.Session, &d.Next.Pending} {
		if old := *ses; old != nil && (old.FCnt16 != p.FCnt16 || old.ResetsFCnt != p.mayReset()) {
			next := *old
			next.FCnt16, next.ResetsFCnt = p.FCnt16, p.mayReset()
			*ses, d.Changed = &next, true
		}
	}
	return d, nil
}
