package device

import (
	"slices"
	"time"

	"lorikeet/messages"
	"lorikeet/messages/frame"
)

const (
	maxFOpts    = 15
	macPriority = messages.Priority(5) // of what answers the network layer of the device
)

// takeFCntDown spends the next counter, or that which the application encrypted item for. No counter is ever given twice under one key
// (LoRaWAN 1.0.4 §4.3.1.3). item is nil for a downlink without one.
func (s *Session) takeFCntDown(p *Profile, item *messages.Downlink) (uint32, bool) {
	limit := uint32(0xffff_ffff)
	if p.FCnt16 {
		limit = 0xffff
	}
	if s.FCntDownSpent || s.NextFCntDown > limit {
		return 0, false
	}
	if item != nil && item.Encrypted {
		if item.FCnt < s.NextFCntDown || item.FCnt > limit {
			return 0, false
		}
		s.NextFCntDown = item.FCnt
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
	if len(windows) > 0 {
		events = s.dropUnsendable(p, ses, room, events, cmd)
	}
	fOpts, masked := joinFOpts(mac), false
	if mask := p.channelMask(ses, copies[0].Settings); len(mask) > 0 && len(fOpts)+len(mask) <= maxFOpts {
		fOpts, masked = append(fOpts, mask...), true
	}
	item := (*messages.Downlink)(nil)
	head := s.head(ses, cmd.Now)
	if head >= 0 && len(s.Queue[head].FRMPayload)+len(fOpts) <= room {
		item = &s.Queue[head]
	}
	if item == nil && len(fOpts) == 0 && !o.Data.Confirmed() && !o.Data.ADRACKReq || len(windows) == 0 {
		return nil, events
	}
	fCnt, ok := ses.takeFCntDown(p, item)
	if !ok {
		if item != nil {
			events = append(events, s.failed(p, ses, *item, cmd.Now, cmd.IDs, ErrExhausted))
			s.removeAt(head)
		}
		return nil, events
	}
	if masked {
		ses.ChannelMaskTries++
	}
	down := frame.Downlink{ACK: o.Data.Confirmed(), DevAddr: ses.DevAddr, FCnt: p.onAir(fCnt), FOpts: fOpts, FPending: head >= 0}
	t := &Transmit{SessionSeq: ses.Seq, FCnt: fCnt, Candidates: copies, Priority: macPriority}
	size := len(fOpts)
	if item != nil {
		sent := *item
		sent.Attempt++
		s.Queue = slices.Clone(s.Queue)
		s.Queue[head] = sent
		s.InFlight = &InFlight{ItemID: sent.ID, SessionSeq: ses.Seq, FCnt: fCnt}
		down.Confirmed, down.HasFPort, down.FPort, down.FRMPayload, down.Encrypted = sent.Confirmed, true, sent.FPort, sent.FRMPayload, sent.Encrypted
		down.FPending = s.anotherWaits(ses, cmd.Now, head)
		t.Priority = sent.Priority
		size += len(sent.FRMPayload)
	}
	events = append(events, s.invalidateSpent(p, ses, cmd.Now, cmd.IDs)...)
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
