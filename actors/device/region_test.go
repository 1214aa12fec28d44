package device

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/brocaar/lorawan"
	"github.com/google/go-cmp/cmp"

	"lorikeet/messages"
)

func lora(sf uint8, khz uint32) messages.DataRate {
	return messages.DataRate{SpreadingFactor: sf, Bandwidth: khz * 1000, CodingRate: "4/5"}
}

// answered gives the windows of the answer to a confirmed uplink.
func (b *bench) answered(fCnt uint32, frequency uint64, dr messages.DataRate) []Window {
	b.t.Helper()
	cmd := b.uplink(up{fCnt: fCnt, port: 1, confirmed: true})
	for i := range cmd.Copies {
		cmd.Copies[i].Settings.Frequency, cmd.Copies[i].Settings.DataRate = frequency, dr
	}
	d := b.must(cmd)
	if d.Transmit == nil {
		b.t.Fatal("no answer")
	}
	return d.Transmit.Windows
}

// RP002-1.0.4 §2.4.6, §2.4.7: RX1 on the uplink's frequency, its data rate lowered by the offset; RX2 on 869.525 MHz.
func TestWindowsOfEU868(t *testing.T) {
	rates := []messages.DataRate{lora(12, 125), lora(11, 125), lora(10, 125), lora(9, 125), lora(8, 125), lora(7, 125), lora(7, 250)}
	for offset := range 6 {
		for dr, rate := range rates {
			b := newBench(t, "EU_863_870_TTN")
			b.p.RX1DROffset = uint8(offset)
			b.must(SetSession{DevAddr: addr, NwkSKey: nwkSKey, AppSKey: appSKey, Now: epoch})
			for i, frequency := range []uint64{868100000, 868300000, 868500000, 867100000, 867300000, 867500000, 867700000, 867900000} {
				want := []Window{
					{Delay: time.Second, Frequency: uint32(frequency), DataRate: rates[max(dr-offset, 0)], Power: 16},
					{Delay: 2 * time.Second, Frequency: 869525000, DataRate: lora(12, 125), Power: 29},
				}
				if diff := cmp.Diff(want, b.answered(uint32(i), frequency, rate)); diff != "" {
					t.Fatalf("DR%d, offset %d, %d Hz: %s", dr, offset, frequency, diff)
				}
			}
		}
	}
}

func TestWindowsOfFSKAndLRFHSS(t *testing.T) {
	for name, c := range map[string]struct {
		up, rx1 messages.DataRate
	}{
		"FSK":         {messages.DataRate{Modulation: messages.FSK, BitRate: 50000}, messages.DataRate{Modulation: messages.FSK, BitRate: 50000}},
		"LR-FHSS 1/3": {messages.DataRate{Modulation: messages.LRFHSS, Bandwidth: 137000, CodingRate: "1/3"}, lora(11, 125)},
		"LR-FHSS 2/3": {messages.DataRate{Modulation: messages.LRFHSS, Bandwidth: 137000, CodingRate: "2/3"}, lora(10, 125)},
		"LR-FHSS 336": {messages.DataRate{Modulation: messages.LRFHSS, Bandwidth: 336000, CodingRate: "2/3"}, lora(10, 125)},
	} {
		b := abp(t)
		b.p.Version = 4
		if w := b.answered(0, 868100000, c.up); len(w) != 2 || w[0].DataRate != c.rx1 {
			t.Errorf("%s: windows %+v, want RX1 at %+v", name, w, c.rx1)
		}
	}
}

// A data rate that the region does not have leaves RX2.
func TestUplinkOfAnotherRegionIsAnsweredInRX2(t *testing.T) {
	b := abp(t)
	if w := b.answered(0, 868100000, lora(8, 500)); len(w) != 1 || w[0].Delay != 2*time.Second {
		t.Errorf("windows %+v", w)
	}
}

// RP002-1.0.4 §2.5.6, §2.5.7: eight downlink channels, the index is that of the uplink channel modulo 8; the data rate by table.
func TestWindowsOfUS915(t *testing.T) {
	downlinks := map[uint8]uint8{10: 10, 9: 9, 8: 8, 7: 7}
	for fsb := range 8 {
		for offset := range 4 {
			b := newBench(t, fmt.Sprintf("US_902_928_FSB_%d", fsb+1))
			b.p.RX1DROffset = uint8(offset)
			b.must(SetSession{DevAddr: addr, NwkSKey: nwkSKey, AppSKey: appSKey, Now: epoch})
			fCnt := uint32(0)
			check := func(channel int, frequency uint64, rate messages.DataRate, sf int) {
				t.Helper()
				want := []Window{
					{Delay: time.Second, Frequency: uint32(923300000 + 600000*(channel%8)), DataRate: lora(uint8(sf), 500), Power: 29},
					{Delay: 2 * time.Second, Frequency: 923300000, DataRate: lora(12, 500), Power: 29},
				}
				if diff := cmp.Diff(want, b.answered(fCnt, frequency, rate)); diff != "" {
					t.Fatalf("channel %d, %+v, offset %d: %s", channel, rate, offset, diff)
				}
				fCnt++
			}
			for i := range 8 {
				channel := 8*fsb + i
				for sf, rx1 := range downlinks {
					check(channel, uint64(902300000+200000*channel), lora(sf, 125), min(int(rx1)+offset, 12))
				}
			}
			check(64+fsb, uint64(903000000+1600000*fsb), lora(8, 500), 7+max(offset-1, 0))
		}
	}
}

// RP002-1.0.4 §2.4.6 and §2.5.6, without repeater. What fits one window only is sent in that one.
func TestPayloadLimitsOfTheWindows(t *testing.T) {
	for name, c := range map[string]struct {
		plan      string
		frequency uint64
		dr        messages.DataRate
		rx1, rx2  int
	}{
		"EU868 SF12":     {"EU_863_870", 868100000, lora(12, 125), 51, 51},
		"EU868 SF10":     {"EU_863_870", 868100000, lora(10, 125), 51, 51},
		"EU868 SF9":      {"EU_863_870", 868100000, lora(9, 125), 115, 51},
		"EU868 SF8":      {"EU_863_870", 868100000, lora(8, 125), 242, 51},
		"EU868 SF7":      {"EU_863_870", 868100000, lora(7, 125), 242, 51},
		"US915 SF10":     {"US_902_928", 903900000, lora(10, 125), 242, 53},
		"US915 SF7":      {"US_902_928", 903900000, lora(7, 125), 242, 53},
		"US915 SF8/500k": {"US_902_928", 904600000, lora(8, 500), 242, 53},
	} {
		for version := range Version(5) {
			for _, size := range []int{0, c.rx2, c.rx2 + 1, c.rx1, min(c.rx1+1, 242)} {
				b := newBench(t, c.plan)
				b.p.Version = version
				b.must(SetSession{DevAddr: addr, NwkSKey: nwkSKey, AppSKey: appSKey, Now: epoch})
				b.push(messages.Downlink{ID: "a", FRMPayload: make([]byte, size)})
				d := b.must(b.uplink(up{fCnt: 1, port: 1, frequency: c.frequency, dr: c.dr}))
				var want []time.Duration
				if size <= c.rx1 {
					want = append(want, time.Second)
				}
				if size <= c.rx2 {
					want = append(want, 2*time.Second)
				}
				var got []time.Duration
				if d.Transmit != nil {
					for _, w := range d.Transmit.Windows {
						got = append(got, w.Delay)
					}
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Fatalf("%s, LoRaWAN %v, %d bytes: %s", name, version, size, diff)
				}
				if failed := slices.Contains(types(d.Events), messages.EventDownFailed); failed != (want == nil) || (len(b.s.Queue) == 0) != (want == nil) {
					t.Fatalf("%s, %d bytes: failed %v, queue %v", name, size, failed, b.s.Queue)
				}
			}
		}
	}
}

// MAC answers count for the limit as well.
func TestDownlinkThatDoesNotFitBesideMACAnswersWaits(t *testing.T) {
	b := abp(t)
	b.push(messages.Downlink{ID: "a", FRMPayload: make([]byte, 50)})
	d := b.must(b.uplink(up{fCnt: 1, port: 1, dr: lora(12, 125), fOpts: []lorawan.MACCommand{{CID: lorawan.LinkCheckReq}}}))
	if got := b.read(d.Transmit, 1); got.port != 0 || !got.pending || len(got.fOpts) != 1 {
		t.Errorf("got %+v", got)
	}
	d = b.must(b.uplink(up{fCnt: 2, port: 1, dr: lora(12, 125)}))
	if got := b.read(d.Transmit, 2); got.port != 10 || got.pending {
		t.Errorf("got %+v", got)
	}
}

// RP002-1.0.4 §2.4.5: five channels beside the three of every device.
func TestCFListOfEU868(t *testing.T) {
	for version := range Version(5) {
		b := otaa(t, "EU_863_870_TTN")
		b.p.Version = version
		acc := b.accept(b.must(b.joinRequest(1, 868100000, sf7)).Transmit)
		if acc.CFList == nil || acc.CFList.CFListType != lorawan.CFListChannel {
			t.Fatalf("1.0.%d: CFList %+v", version, acc.CFList)
		}
		want := [5]uint32{867100000, 867300000, 867500000, 867700000, 867900000}
		if got := acc.CFList.Payload.(*lorawan.CFListChannelPayload).Channels; got != want {
			t.Errorf("1.0.%d: channels %v", version, got)
		}
	}
}

func fsbChannels(fsb int) (out []int) {
	for i := range 8 {
		out = append(out, 8*fsb+i)
	}
	return append(out, 64+fsb)
}

// applied is what a device that has channel mask before makes of the LinkADRReq in a downlink, as LoRaWAN 1.0.2 and later have it: as a block.
func (b *bench) applied(t *Transmit, before []int) (channels []int, dr uint8) {
	b.t.Helper()
	var phy lorawan.PHYPayload
	b.check(phy.UnmarshalBinary(t.PHYPayload))
	b.check(phy.DecodeFOptsToMACCommands())
	var block []lorawan.LinkADRReqPayload
	for _, o := range phy.MACPayload.(*lorawan.MACPayload).FHDR.FOpts {
		if c := o.(*lorawan.MACCommand); c.CID == lorawan.LinkADRReq {
			block = append(block, *c.Payload.(*lorawan.LinkADRReqPayload))
		}
	}
	if len(block) == 0 {
		b.t.Fatal("no LinkADRReq")
	}
	channels, err := b.p.Region.band.GetEnabledUplinkChannelIndicesForLinkADRReqPayloads(before, block)
	b.check(err)
	return channels, block[len(block)-1].DataRate
}

// A device of US915 has to be told its sub-band: by CFList from LoRaWAN 1.0.3 on, by LinkADRReq before.
func TestUS915DevicesAreToldTheirSubBand(t *testing.T) {
	all := make([]int, 72)
	for i := range all {
		all[i] = i
	}
	for fsb := range 8 {
		for version := range Version(5) {
			b := otaa(t, fmt.Sprintf("US_902_928_FSB_%d", fsb+1))
			b.p.Version = version
			acc := b.accept(b.must(b.joinRequest(1, uint64(902300000+1600000*fsb), lora(10, 125))).Transmit)
			if (acc.CFList != nil) != (version >= 3) {
				t.Fatalf("1.0.%d: CFList %v", version, acc.CFList)
			}
			ses := *b.s.Pending
			keys := [2]messages.Key{ses.NwkSKey, ses.AppSKey}
			frequency := uint64(902300000 + 1600000*fsb)
			d := b.must(b.uplink(up{fCnt: 0, port: 1, addr: ses.DevAddr, keys: keys, frequency: frequency, dr: lora(8, 125)}))
			if version >= 3 {
				if d.Transmit != nil {
					t.Fatalf("1.0.%d: told twice", version)
				}
				continue
			}
			channels, dr := b.applied(d.Transmit, all)
			if diff := cmp.Diff(fsbChannels(fsb), channels); diff != "" || dr != 2 {
				t.Fatalf("1.0.%d, sub-band %d: DR%d, %s", version, fsb+1, dr, diff)
			}
		}
	}
}

var (
	adrTaken   = lorawan.MACCommand{CID: lorawan.LinkADRAns, Payload: &lorawan.LinkADRAnsPayload{ChannelMaskACK: true, DataRateACK: true, PowerACK: true}}
	adrRefused = lorawan.MACCommand{CID: lorawan.LinkADRAns, Payload: &lorawan.LinkADRAnsPayload{ChannelMaskACK: true, DataRateACK: false, PowerACK: true}}
)

func fsb2(t *testing.T) *bench {
	b := newBench(t, "US_902_928_FSB_2")
	b.must(SetSession{DevAddr: addr, NwkSKey: nwkSKey, AppSKey: appSKey, Now: epoch})
	return b
}

// [LoRaWAN 1.0.4 §5.3] one bit that is not set means that nothing was changed.
func TestChannelMaskThatIsRefusedInPartIsAskedForAgainThreeTimesInAll(t *testing.T) {
	for name, answers := range map[string][]lorawan.MACCommand{"one answer": {adrRefused}, "one of two": {adrTaken, adrRefused}, "the other": {adrRefused, adrTaken}, "none": nil} {
		b := fsb2(t)
		asked := 0
		for i := range uint32(6) {
			d := b.must(b.uplink(up{fCnt: i, port: 1, frequency: 903900000, dr: lora(7, 125), fOpts: answers}))
			if d.Transmit != nil {
				asked++
			}
		}
		if asked != 3 {
			t.Errorf("%s: asked %d times, want 3", name, asked)
		}
	}
}

func TestChannelMaskThatHadNoRoomWasNotAskedFor(t *testing.T) {
	b := fsb2(t)
	// LinkCheckAns and DeviceTimeAns take 9 of the 15 bytes, the channel mask 10.
	for i := range uint32(5) {
		d := b.must(b.uplink(up{fCnt: i, port: 1, frequency: 903900000, dr: lora(7, 125), fOpts: []lorawan.MACCommand{{CID: lorawan.LinkCheckReq}, {CID: lorawan.DeviceTimeReq}}}))
		if got := b.read(d.Transmit, i+1); len(got.fOpts) != 2 {
			t.Fatalf("got %+v", got)
		}
	}
	d := b.must(b.uplink(up{fCnt: 5, port: 1, frequency: 903900000, dr: lora(7, 125)}))
	if got := b.read(d.Transmit, 6); len(got.fOpts) != 2 || got.fOpts[0] != lorawan.LinkADRReq {
		t.Errorf("got %+v", got)
	}
}

func TestDeviceThatLeavesItsSubBandIsToldAgain(t *testing.T) {
	b := fsb2(t)
	inside := up{port: 1, frequency: 903900000, dr: lora(7, 125)}
	wide := up{port: 1, frequency: 904600000, dr: lora(8, 500)}
	outside := up{port: 1, frequency: 902300000, dr: lora(7, 125)}
	b.must(b.uplink(inside))
	fCnt := uint32(0)
	send := func(u up, fOpts ...lorawan.MACCommand) *Transmit {
		fCnt++
		u.fCnt, u.fOpts = fCnt, fOpts
		return b.must(b.uplink(u)).Transmit
	}
	for step, told := range []bool{
		send(inside, adrTaken, adrTaken) != nil, send(wide) != nil, send(outside) == nil, send(inside, adrTaken, adrTaken) != nil, send(inside) != nil,
	} {
		if told {
			t.Errorf("step %d: wrong", step)
		}
	}
	// A reset of an ABP device forgets the mask as well.
	b.p.ResetsFCnt = true
	u := inside
	u.fCnt, u.payload = 0, []byte("x")
	if d := b.must(b.uplink(u)); d.Transmit == nil {
		t.Error("not told after a reset")
	}
}

// Before LoRaWAN 1.0.2 each LinkADRReq stands alone: each must be valid by itself.
func TestEachLinkADRReqFitsTheChannelsItLeaves(t *testing.T) {
	b := fsb2(t)
	d := b.must(b.uplink(up{fCnt: 0, port: 1, frequency: 903900000, dr: lora(7, 125)}))
	var phy lorawan.PHYPayload
	b.check(phy.UnmarshalBinary(d.Transmit.PHYPayload))
	b.check(phy.DecodeFOptsToMACCommands())
	first := phy.MACPayload.(*lorawan.MACPayload).FHDR.FOpts[0].(*lorawan.MACCommand).Payload.(*lorawan.LinkADRReqPayload)
	if first.Redundancy.ChMaskCntl != 7 || first.DataRate != 4 {
		t.Errorf("got %+v: all 125 kHz channels off leaves DR4 only", first)
	}
}

// What an operator sets and the region has not must not make a device refuse its join-accept.
func TestSettingsOutsideTheTablesArePassedOver(t *testing.T) {
	for plan, bad := range map[string][]uint8{"EU_863_870": {8, 11, 12, 15}, "US_902_928_FSB_1": {0, 4, 7, 14, 15}} {
		for _, dr := range bad {
			b := otaa(t, plan)
			b.p.RX2DR, b.p.RX1DROffset = &dr, 7
			d := b.must(b.joinRequest(1, 902300000, lora(10, 125)))
			acc := b.accept(d.Transmit)
			if want := b.p.Region.rx2DR; acc.DLSettings.RX2DataRate != want || acc.DLSettings.RX1DROffset != 0 {
				t.Errorf("%s: RX2 DR%d, offset %d for a setting of %d and 7", plan, acc.DLSettings.RX2DataRate, acc.DLSettings.RX1DROffset, dr)
			}
			b.p.SupportsJoin = false
			b.must(SetSession{DevAddr: addr, NwkSKey: nwkSKey, AppSKey: appSKey, Now: epoch})
			for _, w := range b.answered(0, 902300000, lora(10, 125)) {
				if w.DataRate.SpreadingFactor == 0 {
					t.Errorf("%s: window %+v", plan, w)
				}
			}
		}
	}
}
