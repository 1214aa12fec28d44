package device

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"lorikeet/messages"
	"lorikeet/messages/frame"
)

// script turns bytes into the choices of a fuzzed conversation; at its end all choices are 0.
type script []byte

func (s *script) byte() byte {
	if len(*s) == 0 {
		return 0
	}
	b := (*s)[0]
	*s = (*s)[1:]
	return b
}

func (s *script) bytes(n int) []byte {
	out := make([]byte, n)
	for i := range out {
		out[i] = s.byte()
	}
	return out
}

// conversation is a device and its server side, with what was seen so far.
type conversation struct {
	*bench
	script
	step     int
	sent     []ReceiveUplink
	last     *Transmit
	spent    map[string]bool
	events   map[string]bool
	accepted map[string]bool // frames that became events
}

// FuzzDecide holds a conversation of random commands with a device. What always holds: Decide changes nothing that it is given; a refusal has no
// consequences; a record is read back as it was written; FCntUp never falls; no FCntDown is used twice under one key; no event comes twice; no item of the
// queue is lost in silence.
func FuzzDecide(f *testing.F) {
	f.Add([]byte{7, 1, 0, 0, 1, 2, 0, 5, 0, 3, 0, 0, 1, 1, 4, 2, 0, 0, 0, 1}, uint8(3), uint8(0))
	f.Add([]byte{6, 1, 0, 1, 0, 5, 6, 2, 0, 1, 4, 1, 10, 1, 0, 0, 0, 5, 1, 2, 2, 0, 8}, uint8(4), uint8(2))
	f.Add([]byte{7, 0, 0xff, 0, 2, 2, 0x0f, 2, 13, 2, 13, 2, 13, 1, 1, 1}, uint8(0), uint8(1+4+8))
	var regions []*Region
	for _, plan := range []string{"EU_863_870_TTN", "US_902_928_FSB_2", "US_902_928", "EU_863_870"} {
		r, err := NewRegion(plan)
		if err != nil {
			f.Fatal(err)
		}
		regions = append(regions, r)
	}
	f.Fuzz(func(t *testing.T, choices []byte, version, flags uint8) {
		if len(choices) > 2000 {
			return
		}
		b := &bench{t: t, p: &Profile{ID: messages.DeviceID{ApplicationID: "app", DeviceID: "dev"}, DevEUI: messages.EUI64{1}, JoinEUI: messages.EUI64{2}, AppKey: appKey, Region: regions[flags>>4%4], DesiredRX1Delay: 5}}
		c := &conversation{bench: b, script: choices, spent: map[string]bool{}, events: map[string]bool{}, accepted: map[string]bool{}}
		c.p.Version = Version(version % 5)
		c.p.SupportsJoin, c.p.FCnt16, c.p.ResetsFCnt, c.p.ResetsJoinNonces = flags&2 != 0, flags&1 != 0, flags&4 != 0, flags&8 != 0
		for len(c.script) > 0 {
			c.step++
			c.take(c.command())
		}
	})
}

func (c *conversation) command() Command {
	now := epoch.Add(time.Duration(c.step) * time.Minute)
	switch c.byte() % 13 {
	case 0, 1:
		return c.newUplink(now)
	case 2: // again, or a replay
		if n := len(c.sent); n > 0 {
			return c.sent[n-1-int(c.byte())%n]
		}
	case 3, 4:
		cmd := PushDownlinks{Replace: c.byte()%4 == 0, Now: now, IDs: []string{"as"}, Random: "r"}
		for i := range c.byte() % 4 {
			item := messages.Downlink{ID: fmt.Sprintf("%d-%d", c.step, i), FPort: 1 + c.byte()%224, FRMPayload: c.bytes(int(c.byte())), Confirmed: c.byte()%2 == 0, MaxAttempts: uint32(c.byte() % 4)}
			c.choose(&item, now)
			cmd.Items = append(cmd.Items, item)
		}
		return cmd
	case 5:
		results := []messages.TxError{messages.TxOK, messages.TxTooLate, messages.TxUnanswered, messages.TxCollisionPacket}
		cmd := ReportTransmission{Now: now, IDs: []string{"ns"}, Missed: c.byte()%4 == 0, Err: results[c.byte()%4]}
		if c.last != nil {
			cmd.SessionSeq, cmd.FCnt = c.last.SessionSeq, c.last.FCnt
		}
		return cmd
	case 6:
		cmd := c.joinRequest(uint16(c.byte()), 868100000, sf7)
		cmd.DevAddr = messages.DevAddr{0, 1, byte(c.step), byte(c.step >> 8)}
		return cmd
	case 7:
		return c.newSession(now)
	case 9:
		cmd := CancelDownlinks{Items: []string{fmt.Sprintf("%d-%d", c.byte(), c.byte()%4)}, Now: now, Random: "r"}
		if n := len(c.s.Queue); n > 0 {
			cmd.Items = append(cmd.Items, c.s.Queue[int(c.byte())%n].ID)
		}
		return cmd
	case 10:
		return ExpireDownlinks{Now: now}
	case 11:
		c.p.SkipCrypto = !c.p.SkipCrypto
		return ApplyProfile{}
	case 8:
		return []Command{Reset{}, ApplyProfile{}, Restore{From: c.s, Now: now, Random: "r"}}[c.byte()%3]
	}
	return FailDownlinks{Items: []messages.Downlink{{ID: fmt.Sprint(c.step), FPort: 1}}, Reason: ErrNoSession, Now: now, Random: "r"}
}

// choose gives an item what only some have.
func (c *conversation) choose(item *messages.Downlink, now time.Time) {
	switch kind := c.byte(); kind % 8 {
	case 1:
		item.TimeToLive = time.Duration(kind) * time.Minute / 8
	case 2:
		item.ClassBC, item.AbsoluteTime = []byte(`{}`), now.Add(time.Duration(c.byte())*time.Minute-time.Hour)
	case 3:
		item.ClassBC = []byte(`{}`)
	}
	if ses := c.s.current(); c.p.SkipCrypto && ses != nil {
		item.SessionKeyID, item.FCnt = ses.KeyID, c.s.lastFCntDown(ses)+uint32(c.byte()%4)
	}
}

// newSession is the same session once more, or one with keys that were never used.
func (c *conversation) newSession(now time.Time) Command {
	cmd := SetSession{DevAddr: messages.DevAddr{1, byte(c.step), byte(c.step >> 8), 1}, NwkSKey: messages.Key{1, byte(c.step), byte(c.step >> 8)}, AppSKey: messages.Key{2, byte(c.step), byte(c.step >> 8)}, Now: now, Random: "r"}
	if ses := c.s.Session; ses != nil && c.byte()%2 == 0 {
		cmd.DevAddr, cmd.NwkSKey, cmd.AppSKey = ses.DevAddr, ses.NwkSKey, ses.AppSKey
	}
	cmd.LastFCntDown = []uint32{0, 0, 5, 0xfffe, 0xffff, 0xffff_fffe, 0xffff_ffff}[c.byte()%7]
	if c.byte()%3 == 0 {
		cmd.HasFCntUp, cmd.LastFCntUp = true, []uint32{0, 3, 0xffff, 0x1fffe, 0xffff_fffe}[c.byte()%5]
	}
	return cmd
}

// newUplink is one that the device could make next in one of its sessions, or one that is wrong in something.
func (c *conversation) newUplink(now time.Time) Command {
	ses := c.s.Session
	if c.s.Pending != nil && (ses == nil || c.byte()%2 == 0) {
		ses = c.s.Pending
	}
	if ses == nil {
		return ReceiveUplink{Copies: copies(c.bytes(int(c.byte()%40)), sf7, 868100000), Now: now, Random: "r"}
	}
	fCnt := ses.LastFCntUp + uint32(c.byte()%4)
	if kind := c.byte(); kind%8 == 0 {
		fCnt += uint32(kind) << 11
	}
	fOpts := c.bytes(int(c.byte() % 16))
	phy := append([]byte{0x40 + 0x40*(c.byte()%2), ses.DevAddr[3], ses.DevAddr[2], ses.DevAddr[1], ses.DevAddr[0], c.byte()&0xf0 | byte(len(fOpts)), byte(fCnt), byte(fCnt >> 8)}, fOpts...)
	if n := int(c.byte() % 30); n > 0 {
		phy = append(phy, c.bytes(n)...)
	}
	phy = sign(phy, ses, c.p.onAir(fCnt))
	if c.byte()%16 == 15 {
		phy[int(c.byte())%len(phy)] ^= 1 << (c.byte() % 8)
	}
	rates := []messages.DataRate{sf7, lora(12, 125), lora(8, 500), lora(5, 812), {Modulation: messages.FSK, BitRate: 50000}, {Modulation: messages.LRFHSS, Bandwidth: 137000, CodingRate: "2/3"}}
	cmd := ReceiveUplink{
		Copies: copies(phy, rates[int(c.byte())%len(rates)], []uint64{868100000, 903900000, 904600000, 1}[c.byte()%4], 1, c.byte()%3), Now: now, IDs: []string{"ns"}, Random: "r",
	}
	c.sent = append(c.sent, cmd)
	return cmd
}

// sign adds the MIC of an uplink (LoRaWAN 1.0.4 §4.4).
func sign(phy []byte, ses *Session, fCnt uint32) []byte {
	mic := frame.NewCipher(ses.NwkSKey).MIC(false, ses.DevAddr, fCnt, phy)
	return append(phy, mic[:]...)
}

// take decides and adopts a command, and checks what always holds.
func (c *conversation) take(cmd Command) {
	c.t.Helper()
	before, told := c.s, fmt.Sprintf("%v", cmd)
	d, err := c.try(cmd)
	if after := fmt.Sprintf("%v", cmd); after != told {
		c.t.Fatalf("the command was changed:\n%s\n%s", told, after)
	}
	if err != nil {
		return
	}
	if !d.Changed && d.Transmit != nil {
		c.t.Fatal("a transmission that is not written down first")
	}
	if _, join := cmd.(ReceiveJoin); join && c.s.LastJoinNonce != before.LastJoinNonce+1 {
		c.t.Fatalf("JoinNonce went from %d to %d", before.LastJoinNonce, c.s.LastJoinNonce)
	}
	c.checkCounters(before)
	c.checkEvents(d, cmd)
	if d.Transmit != nil {
		c.last = d.Transmit
		c.checkTransmit(d.Transmit)
	}
	c.checkQueue(before, d, cmd)
	if len(c.s.Queue) > MaxQueue || c.s.InFlight != nil && c.s.InFlight.ItemID != "" && c.s.inFlight() < 0 {
		c.t.Fatalf("in flight %+v, queue %+v", c.s.InFlight, c.s.Queue)
	}
	stored, _ := c.s.Marshal()
	if again, err := Unmarshal(stored); err != nil {
		c.t.Fatal(err)
	} else if b, _ := again.Marshal(); !bytes.Equal(b, stored) {
		c.t.Fatal("the record is not read back as it was written")
	}
}

func (c *conversation) checkCounters(before State) {
	c.t.Helper()
	old, now := before.Session, c.s.Session
	if c.s.LastJoinNonce < before.LastJoinNonce || c.s.SessionSeq < before.SessionSeq {
		c.t.Fatal("JoinNonce or session number fell")
	}
	if old == nil || now == nil || old.Seq != now.Seq {
		return
	}
	if now.Resets == old.Resets && (now.LastFCntUp < old.LastFCntUp || old.HasFCntUp && !now.HasFCntUp) {
		c.t.Fatalf("FCntUp fell from %d to %d", old.LastFCntUp, now.LastFCntUp)
	}
	if now.NextFCntDown < old.NextFCntDown || old.FCntDownSpent && !now.FCntDownSpent {
		c.t.Fatalf("FCntDown fell from %d to %d", old.NextFCntDown, now.NextFCntDown)
	}
}

// checkQueue: an item leaves the queue with an event that names it, unless the queue is thrown away.
func (c *conversation) checkQueue(before State, d Decision, cmd Command) {
	c.t.Helper()
	if push, ok := cmd.(PushDownlinks); ok && push.Replace || isReset(cmd) {
		return
	}
	named := c.s.queuedIDs()
	for _, e := range d.Events {
		if e.Downlink != nil {
			named[e.Downlink.ID] = true
		}
		for _, item := range e.Invalidated {
			named[item.ID] = true
		}
	}
	for _, item := range before.Queue {
		if !named[item.ID] {
			c.t.Fatalf("%T: item %s left the queue in silence", cmd, item.ID)
		}
	}
}

func isReset(cmd Command) bool { _, ok := cmd.(Reset); return ok }

func (c *conversation) checkEvents(d Decision, cmd Command) {
	c.t.Helper()
	for _, e := range d.Events {
		if c.events[e.ID] {
			c.t.Fatalf("event %s comes twice", e.ID)
		}
		c.events[e.ID] = true
		if e.Type != messages.EventUplink || c.p.mayReset() || c.p.FCnt16 {
			continue
		}
		// Without the operator's word for a replay, a frame is one event at most.
		phy := string(cmd.(ReceiveUplink).Copies[0].PHYPayload)
		if c.accepted[phy] {
			c.t.Fatalf("frame %x is accepted twice", phy)
		}
		c.accepted[phy] = true
	}
}

func (c *conversation) checkTransmit(t *Transmit) {
	c.t.Helper()
	for _, w := range t.Windows {
		if w.Frequency == 0 || w.Delay < time.Second || w.DataRate.Modulation == messages.LRFHSS || w.DataRate.Modulation == messages.LoRa && (w.DataRate.SpreadingFactor < 7 || w.DataRate.SpreadingFactor > 12) {
			c.t.Fatalf("window %+v", w)
		}
	}
	if t.Join {
		return
	}
	data, err := frame.ParseData(t.PHYPayload)
	if err != nil || len(t.PHYPayload) > 255 || len(data.FOpts) > maxFOpts {
		c.t.Fatalf("downlink %x: %v", t.PHYPayload, err)
	}
	ses := c.s.Session
	if ses.Seq != t.SessionSeq || uint16(t.FCnt) != data.FCnt16 {
		c.t.Fatalf("downlink %d of session %d, on air %d of session %d", t.FCnt, t.SessionSeq, data.FCnt16, ses.Seq)
	}
	use := fmt.Sprintf("%s %d", ses.NwkSKey.Hex(), t.FCnt)
	if c.spent[use] {
		c.t.Fatalf("FCntDown %d is used twice", t.FCnt)
	}
	c.spent[use] = true
}
