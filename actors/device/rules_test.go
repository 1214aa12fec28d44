package device

import (
	"errors"
	"math"
	"testing"
	"time"

	"github.com/brocaar/lorawan"
	"github.com/google/go-cmp/cmp"

	"lorikeet/messages"
)

// macAnswers reads the MAC commands of a downlink.
func (b *bench) macAnswers(t *Transmit) (out []lorawan.MACCommand) {
	b.t.Helper()
	var phy lorawan.PHYPayload
	b.check(phy.UnmarshalBinary(t.PHYPayload))
	b.check(phy.DecodeFOptsToMACCommands())
	for _, o := range phy.MACPayload.(*lorawan.MACPayload).FHDR.FOpts {
		out = append(out, *o.(*lorawan.MACCommand))
	}
	return out
}

// LoRaWAN 1.0.4 §5.2: the margin of the best reception over the demodulation floor, 0 to 254 dB, and the radio gateways that heard it.
func TestLinkCheckAns(t *testing.T) {
	for name, c := range map[string]struct {
		sf       uint8
		snr      []float32 // of the receptions
		gateways []byte    // that made them
		want     lorawan.LinkCheckAnsPayload
	}{
		"one":                      {7, []float32{5}, []byte{1}, lorawan.LinkCheckAnsPayload{Margin: 12, GwCnt: 1}},
		"at the floor":             {7, []float32{-7.5}, []byte{1}, lorawan.LinkCheckAnsPayload{Margin: 0, GwCnt: 1}},
		"below the floor":          {7, []float32{-12}, []byte{1}, lorawan.LinkCheckAnsPayload{Margin: 0, GwCnt: 1}},
		"SF12":                     {12, []float32{-20}, []byte{1}, lorawan.LinkCheckAnsPayload{Margin: 0, GwCnt: 1}},
		"SF12, better":             {12, []float32{-3.2}, []byte{1}, lorawan.LinkCheckAnsPayload{Margin: 16, GwCnt: 1}},
		"best of three":            {10, []float32{-10, 2, -14}, []byte{1, 2, 3}, lorawan.LinkCheckAnsPayload{Margin: 17, GwCnt: 3}},
		"antennas are no gateways": {7, []float32{1, 2, 3}, []byte{1, 1, 1}, lorawan.LinkCheckAnsPayload{Margin: 10, GwCnt: 1}},
		"no radio measures that":   {7, []float32{1e9}, []byte{1}, lorawan.LinkCheckAnsPayload{Margin: 254, GwCnt: 1}},
	} {
		b := abp(t)
		cmd := b.uplink(up{fCnt: 1, dr: lora(c.sf, 125), gateways: c.gateways, fOpts: []lorawan.MACCommand{{CID: lorawan.LinkCheckReq}, {CID: lorawan.LinkCheckReq}}})
		for i := range cmd.Copies {
			cmd.Copies[i].Rx[0].SNR = c.snr[i]
		}
		want := []lorawan.MACCommand{{CID: lorawan.LinkCheckAns, Payload: &c.want}}
		if diff := cmp.Diff(want, b.macAnswers(b.must(cmd).Transmit)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

// LoRaWAN 1.0.4 §5.9: the GPS time of the end of the uplink, from a radio gateway that has it, else from the server's clock.
func TestDeviceTimeAns(t *testing.T) {
	before := epoch.Add(-500 * time.Millisecond)
	for name, c := range map[string]struct {
		gps  [2]time.Time // of the radio gateways
		want time.Time
	}{
		"server":       {[2]time.Time{}, epoch},
		"GPS":          {[2]time.Time{{}, before}, before},
		"without leap": {[2]time.Time{epoch.Add(-18 * time.Second), {}}, epoch},
		"one is wrong": {[2]time.Time{epoch.Add(-1024 * 7 * 24 * time.Hour), before}, before},
		"ahead":        {[2]time.Time{epoch.Add(5 * time.Hour), epoch.Add(time.Hour)}, epoch},
	} {
		b := abp(t)
		cmd := b.uplink(up{fCnt: 1, gateways: []byte{1, 2}, fOpts: []lorawan.MACCommand{{CID: lorawan.DeviceTimeReq}}})
		for i := range cmd.Copies {
			cmd.Copies[i].Rx[0].GPSTime = c.gps[i]
		}
		answers := b.macAnswers(b.must(cmd).Transmit)
		if len(answers) != 1 || answers[0].CID != lorawan.DeviceTimeAns {
			t.Fatalf("%s: got %+v", name, answers)
		}
		// 18 leap seconds between UTC and GPS since 2017.
		since := c.want.Sub(time.Date(1980, 1, 6, 0, 0, 0, 0, time.UTC)) + 18*time.Second
		got := answers[0].Payload.(*lorawan.DeviceTimeAnsPayload).TimeSinceGPSEpoch
		if d := got - since; d > 4*time.Millisecond || d < -4*time.Millisecond {
			t.Errorf("%s: got %v since the GPS epoch, want %v", name, got, since)
		}
	}
}

func TestUnknownAndCutMACCommandsEndTheReading(t *testing.T) {
	for name, c := range map[string]struct {
		fOpts []byte
		want  int
	}{
		"unknown first":  {[]byte{0x7f, 0x02}, 0},
		"unknown behind": {[]byte{0x02, 0x7f, 0x0d}, 1},
		"cut":            {[]byte{0x0d, 0x06, 0xff}, 1},
		"proprietary":    {[]byte{0x80, 0x02}, 0},
	} {
		b := abp(t)
		cmd := b.uplink(up{fCnt: 1, port: 1})
		phy := cmd.Copies[0].PHYPayload
		phy = append(append(append([]byte{}, phy[:8]...), c.fOpts...), phy[8:len(phy)-4]...)
		phy[5] = byte(len(c.fOpts))
		cmd.Copies[0].PHYPayload = b.signed(phy, 1)
		d := b.must(cmd)
		got := 0
		if d.Transmit != nil {
			got = len(b.macAnswers(d.Transmit))
		}
		if got != c.want {
			t.Errorf("%s: %d answers, want %d", name, got, c.want)
		}
	}
}

// signed appends the MIC of an uplink.
func (b *bench) signed(phy []byte, fCnt uint32) []byte {
	b.t.Helper()
	var p lorawan.PHYPayload
	b.check(p.UnmarshalBinary(append(phy, 0, 0, 0, 0)))
	p.MACPayload.(*lorawan.MACPayload).FHDR.FCnt = fCnt
	b.check(p.SetUplinkDataMIC(lorawan.LoRaWAN1_0, 0, 0, 0, lorawan.AES128Key(nwkSKey), lorawan.AES128Key(nwkSKey)))
	return append(phy, p.MIC[:]...)
}

// LoRaWAN 1.0.4 §4.3.1.6: FOpts and FPort 0 exclude each other.
func TestFPort0WithFOptsIsMalformed(t *testing.T) {
	b := abp(t)
	cmd := b.uplink(up{fCnt: 1, port: 1})
	phy := []byte{0x40, 4, 3, 2, 1, 1, 1, 0, 0x02, 0x00, 0x02}
	cmd.Copies[0].PHYPayload = append(phy, 0, 0, 0, 0)
	if _, err := b.try(cmd); !errors.Is(err, ErrMalformed) {
		t.Errorf("got %v", err)
	}
}

// LoRaWAN 1.0.4 §4.3.1.3: what is asked for again is answered again; what was reported is not taken in again.
func TestRepetitionIsAnsweredLikeTheFirst(t *testing.T) {
	b := abp(t)
	b.push(messages.Downlink{ID: "a", FRMPayload: []byte("one"), Confirmed: true})
	cmd := b.uplink(up{fCnt: 1, port: 1, confirmed: true, fOpts: []lorawan.MACCommand{{CID: lorawan.LinkCheckReq},
		{CID: lorawan.DevStatusAns, Payload: &lorawan.DevStatusAnsPayload{Battery: 100}}}})
	b.must(cmd)
	before := b.s
	cmd.Now = cmd.Now.Add(time.Second)
	d := b.must(cmd)
	if got := b.read(d.Transmit, 2); !got.ack || !got.pending || len(got.fOpts) != 1 || len(d.Events) != 0 || d.Transmit.Priority != macPriority {
		t.Errorf("got %+v, events %v", got, d.Events)
	}
	if len(b.s.Queue) != 1 || b.s.InFlight == nil || !b.s.Battery.ReceivedAt.Equal(before.Battery.ReceivedAt) || !b.s.LastSeenAt.Equal(before.LastSeenAt) {
		t.Errorf("state %+v", b.s)
	}
	// The downlink of the first answer still waits for its acknowledgement.
	d = b.must(b.uplink(up{fCnt: 2, port: 1, ack: true}))
	wantTypes(t, d, messages.EventUplink, messages.EventDownSent, messages.EventDownAck)
}

func TestRepetitionsAreBoundedByVersion(t *testing.T) {
	for version, want := range map[Version]int{0: 5, 2: 5, 3: 5, 4: 15} {
		b := abp(t)
		b.p.Version = version
		cmd := b.uplink(up{fCnt: 1, port: 1, confirmed: true})
		b.must(cmd)
		n := 0
		for range 40 {
			if _, err := b.try(cmd); err == nil {
				n++
			}
		}
		if n != want {
			t.Errorf("1.0.%d: %d answers to repetitions, want %d", version, n, want)
		}
		// A newer frame ends it: an older one is a replay even if it was never repeated.
		b.must(b.uplink(up{fCnt: 2, port: 1}))
		if _, err := b.try(cmd); !errors.Is(err, ErrReplay) {
			t.Errorf("1.0.%d: got %v", version, err)
		}
	}
}

// A confirmed downlink keeps its place and its attempts over a join in between.
func TestAttemptsAreBoundedOverJoins(t *testing.T) {
	b := otaa(t, "EU_863_870")
	sent := 0
	var last Decision
	for nonce := range uint16(6) {
		b.must(b.joinRequest(nonce, 868100000, sf7))
		ses := *b.s.Pending
		if nonce == 0 {
			b.push(messages.Downlink{ID: "a", FRMPayload: []byte("one"), Confirmed: true, MaxAttempts: 3}, messages.Downlink{ID: "b", FRMPayload: []byte("two")})
		}
		last = b.must(b.uplink(up{fCnt: 0, port: 1, addr: ses.DevAddr, keys: [2]messages.Key{ses.NwkSKey, ses.AppSKey}}))
		if last.Transmit == nil || b.read(last.Transmit, 0, ses.NwkSKey, ses.AppSKey).payload != "one" {
			break
		}
		sent++
		b.report(0, messages.TxOK)
	}
	if sent != 3 {
		t.Errorf("sent %d times, want 3", sent)
	}
	wantTypes(t, last, messages.EventUplink, messages.EventDownFailed)
	if e := last.Events[1]; e.Err.Name != "max_retries_reached" || e.Downlink.ID != "a" {
		t.Errorf("got %+v", e)
	}
}

// A transmission that no radio gateway took counts as an attempt of a confirmed downlink, and is tried again with another counter.
func TestConfirmedDownlinkIsTriedAgainWhenNoRadioGatewayTookIt(t *testing.T) {
	b := abp(t)
	b.push(messages.Downlink{ID: "a", FRMPayload: []byte("one"), Confirmed: true, MaxAttempts: 2})
	b.must(b.uplink(up{fCnt: 1, port: 1}))
	if d := b.report(1, messages.TxTooLate); len(d.Events) != 0 {
		t.Errorf("events %v", types(d.Events))
	}
	d := b.must(b.uplink(up{fCnt: 2, port: 1}))
	wantTypes(t, d, messages.EventUplink) // nothing was sent, so there is nothing to acknowledge
	if got := b.read(d.Transmit, 2); got.payload != "one" || !got.confirmed {
		t.Errorf("got %+v", got)
	}
	d = b.report(2, messages.TxCollisionPacket)
	wantTypes(t, d, messages.EventDownFailed)
	if len(b.s.Queue) != 0 {
		t.Errorf("queue %v", b.s.Queue)
	}
}

// An acknowledgement is for what is in flight; without that it means nothing.
func TestAcknowledgementOfNothingIsIgnored(t *testing.T) {
	b := abp(t)
	wantTypes(t, b.must(b.uplink(up{fCnt: 1, port: 1, ack: true})), messages.EventUplink)
	b.push(messages.Downlink{ID: "a", FRMPayload: []byte("one")})
	b.must(b.uplink(up{fCnt: 2, port: 1, ack: true}))
	wantTypes(t, b.must(b.uplink(up{fCnt: 3, port: 1, ack: true})), messages.EventUplink, messages.EventDownSent)
}

// LoRaWAN 1.0.4 §4.3.1.3: no counter is used twice, also at the end of the range.
func TestFCntDownEnds(t *testing.T) {
	for name, c := range map[string]struct {
		last   uint32
		bits16 bool
		want   []uint32
	}{
		"32 bits":            {math.MaxUint32 - 2, false, []uint32{math.MaxUint32 - 1, math.MaxUint32}},
		"32 bits, all spent": {math.MaxUint32, false, nil},
		"16 bits":            {0xfffd, true, []uint32{0xfffe, 0xffff}},
		"16 bits, all spent": {0xffff, true, nil},
	} {
		b := newBench(t, "EU_863_870")
		b.p.FCnt16 = c.bits16
		b.must(SetSession{DevAddr: addr, NwkSKey: nwkSKey, AppSKey: appSKey, LastFCntDown: c.last, Now: epoch})
		var got []uint32
		for i := range uint32(4) {
			if d := b.must(b.uplink(up{fCnt: i, port: 1, confirmed: true})); d.Transmit != nil {
				got = append(got, d.Transmit.FCnt)
				b.read(d.Transmit, d.Transmit.FCnt)
			}
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestDownlinksFailAloudWhenAllCountersAreSpent(t *testing.T) {
	b := newBench(t, "EU_863_870")
	b.must(SetSession{DevAddr: addr, NwkSKey: nwkSKey, AppSKey: appSKey, LastFCntDown: math.MaxUint32, Now: epoch})
	b.push(messages.Downlink{ID: "a", FRMPayload: []byte("one")})
	d := b.must(b.uplink(up{fCnt: 1, port: 1}))
	wantTypes(t, d, messages.EventUplink, messages.EventDownFailed)
	if d.Transmit != nil || d.Events[1].Err.Name != ErrExhausted.Name || len(b.s.Queue) != 0 {
		t.Errorf("got %+v", d.Events[1])
	}
}

// LoRaWAN 1.0.4 §6.2.6: JoinNonces go up by one and never come again, for all versions, whatever happens between.
func TestJoinNoncesNeverRepeat(t *testing.T) {
	for version := range Version(5) {
		b := otaa(t, "EU_863_870")
		b.p.Version = version
		seen := map[messages.Key]bool{}
		for n := range uint16(10) {
			acc := b.accept(b.must(b.joinRequest(n, 868100000, sf7)).Transmit)
			if int(acc.JoinNonce) != int(n)+1 || seen[b.s.Pending.NwkSKey] {
				t.Fatalf("1.0.%d: JoinNonce %d at join %d", version, acc.JoinNonce, n)
			}
			seen[b.s.Pending.NwkSKey] = true
			if n%3 == 0 {
				b.must(Reset{})
			}
		}
		if _, err := b.try(b.joinRequest(9, 868100000, sf7)); !errors.Is(err, ErrDevNonce) {
			t.Errorf("1.0.%d: a DevNonce of before the reset: %v", version, err)
		}
	}
}

// Device that may repeat DevNonces: each join still gives keys of its own.
func TestRepeatedDevNonceGivesOtherKeys(t *testing.T) {
	b := otaa(t, "EU_863_870")
	b.p.ResetsJoinNonces = true
	b.must(b.joinRequest(1, 868100000, sf7))
	first := b.s.Pending.NwkSKey
	d := b.must(b.joinRequest(1, 868100000, sf7))
	if b.s.Pending.NwkSKey == first || d.Events[0].ID == "" {
		t.Error("one pair of nonces gave the same keys twice")
	}
}

// A device that counts 16 bits uses each value again after a turn: only the gap tells a replay from what comes after it.
func TestReplayToADeviceThatCounts16BitsIsRefused(t *testing.T) {
	for version := range Version(5) {
		b := abp(t)
		b.p.FCnt16, b.p.Version = true, version
		old := b.uplink(up{fCnt: 50, port: 1})
		b.must(old)
		b.must(b.uplink(up{fCnt: 100, port: 1}))
		if _, err := b.try(old); !errors.Is(err, ErrGap) {
			t.Errorf("1.0.%d: got %v", version, err)
		}
	}
}
