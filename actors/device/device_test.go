package device

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"github.com/brocaar/lorawan"
	"github.com/google/go-cmp/cmp"

	"lorikeet/messages"
)

var (
	nwkSKey = messages.Key{1, 2, 3}
	appSKey = messages.Key{4, 5, 6}
	appKey  = messages.Key{7, 8, 9}
	addr    = messages.DevAddr{0x01, 0x02, 0x03, 0x04}
	epoch   = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
)

// bench is one device with its server side.
type bench struct {
	t *testing.T
	s State
	p *Profile
}

func newBench(t *testing.T, plan string) *bench {
	t.Helper()
	region, err := NewRegion(plan)
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{t: t, p: &Profile{
		ID: messages.DeviceID{ApplicationID: "app", DeviceID: "dev"}, DevEUI: messages.EUI64{1}, JoinEUI: messages.EUI64{2}, Version: 3, Region: region,
		AppKey: appKey, RX1Delay: 1, DesiredRX1Delay: 5,
	}}
	return b
}

func abp(t *testing.T) *bench {
	b := newBench(t, "EU_863_870")
	b.must(SetSession{DevAddr: addr, NwkSKey: nwkSKey, AppSKey: appSKey, Now: epoch, Random: "r"})
	return b
}

func (b *bench) must(cmd Command) Decision {
	b.t.Helper()
	d, err := b.try(cmd)
	if err != nil {
		b.t.Fatalf("%T: %v", cmd, err)
	}
	return d
}

// try decides and adopts, over a round trip through the record, and checks that Decide left its arguments alone.
func (b *bench) try(cmd Command) (Decision, error) {
	b.t.Helper()
	before, err := b.s.Marshal()
	if err != nil {
		b.t.Fatal(err)
	}
	d, err := Decide(b.s, b.p, cmd)
	after, _ := b.s.Marshal()
	if !bytes.Equal(before, after) {
		b.t.Fatalf("%T changed the state it was given: %s", cmd, cmp.Diff(before, after))
	}
	if err != nil {
		if len(d.Events) > 0 || d.Transmit != nil || d.Changed {
			b.t.Fatalf("%T: refusal with consequences: %+v", cmd, d)
		}
		return d, err
	}
	if d.Changed {
		stored, err := d.Next.Marshal()
		if err != nil {
			b.t.Fatal(err)
		}
		if b.s, err = Unmarshal(stored); err != nil {
			b.t.Fatal(err)
		}
	}
	return d, nil
}

// up is an uplink as the device makes it.
type up struct {
	fCnt      uint32
	port      uint8
	payload   []byte
	confirmed bool
	ack       bool
	adrACKReq bool
	fOpts     []lorawan.MACCommand
	keys      [2]messages.Key
	addr      messages.DevAddr
	onPort0   []lorawan.MACCommand
	gateways  []byte
	dr        messages.DataRate
	frequency uint64
}

func (b *bench) uplink(u up) ReceiveUplink {
	b.t.Helper()
	if u.keys == [2]messages.Key{} {
		u.keys = [2]messages.Key{nwkSKey, appSKey}
	}
	if u.addr.IsZero() {
		u.addr = addr
	}
	if u.dr.SpreadingFactor == 0 {
		u.dr = messages.DataRate{SpreadingFactor: 7, Bandwidth: 125000, CodingRate: "4/5"}
	}
	if u.frequency == 0 {
		u.frequency = 868100000
	}
	mac := &lorawan.MACPayload{FHDR: lorawan.FHDR{DevAddr: lorawan.DevAddr(u.addr), FCnt: u.fCnt, FCtrl: lorawan.FCtrl{ACK: u.ack, ADRACKReq: u.adrACKReq}}}
	for i := range u.fOpts {
		mac.FHDR.FOpts = append(mac.FHDR.FOpts, &u.fOpts[i])
	}
	phy := lorawan.PHYPayload{MHDR: lorawan.MHDR{MType: lorawan.UnconfirmedDataUp}, MACPayload: mac}
	if u.confirmed {
		phy.MHDR.MType = lorawan.ConfirmedDataUp
	}
	switch {
	case len(u.onPort0) > 0:
		mac.FPort = new(uint8)
		for i := range u.onPort0 {
			mac.FRMPayload = append(mac.FRMPayload, &u.onPort0[i])
		}
		b.check(phy.EncryptFRMPayload(lorawan.AES128Key(u.keys[0])))
	case u.port != 0:
		mac.FPort = &u.port
		mac.FRMPayload = []lorawan.Payload{&lorawan.DataPayload{Bytes: u.payload}}
		b.check(phy.EncryptFRMPayload(lorawan.AES128Key(u.keys[1])))
	}
	b.check(phy.SetUplinkDataMIC(lorawan.LoRaWAN1_0, 0, 0, 0, lorawan.AES128Key(u.keys[0]), lorawan.AES128Key(u.keys[0])))
	bytes, err := phy.MarshalBinary()
	b.check(err)
	return ReceiveUplink{Copies: copies(bytes, u.dr, u.frequency, u.gateways...), Now: epoch.Add(time.Duration(u.fCnt) * time.Minute), Random: "r"}
}

func copies(phy []byte, dr messages.DataRate, frequency uint64, gateways ...byte) []messages.Frame {
	if len(gateways) == 0 {
		gateways = []byte{1}
	}
	var out []messages.Frame
	for i, g := range gateways {
		out = append(out, messages.Frame{PHYPayload: phy, Settings: messages.TxSettings{DataRate: dr, Frequency: frequency, Timestamp: 1000},
			Rx: []messages.RxMetadata{{GatewayEUI: messages.EUI64{g}, SNR: float32(5 + i), RSSI: -60, Timestamp: 1000}}, ReceivedAt: epoch, CorrelationID: "gs"})
	}
	return out
}

func (b *bench) check(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

// down is what the device reads in a downlink.
type down struct {
	fCnt           uint32
	ack, confirmed bool
	pending        bool
	port           uint8
	payload        string
	fOpts          []lorawan.CID
}

func (b *bench) read(t *Transmit, fCnt uint32, keys ...messages.Key) down {
	b.t.Helper()
	if t == nil {
		b.t.Fatal("no downlink")
	}
	if len(keys) == 0 {
		keys = []messages.Key{nwkSKey, appSKey}
	}
	var phy lorawan.PHYPayload
	b.check(phy.UnmarshalBinary(t.PHYPayload))
	mac := phy.MACPayload.(*lorawan.MACPayload)
	mac.FHDR.FCnt = fCnt
	ok, err := phy.ValidateDownlinkDataMIC(lorawan.LoRaWAN1_0, 0, lorawan.AES128Key(keys[0]))
	if err != nil || !ok {
		b.t.Fatalf("downlink MIC with FCntDown %d: %v %v", fCnt, ok, err)
	}
	out := down{fCnt: fCnt, ack: mac.FHDR.FCtrl.ACK, confirmed: phy.MHDR.MType == lorawan.ConfirmedDataDown, pending: mac.FHDR.FCtrl.FPending}
	b.check(phy.DecodeFOptsToMACCommands())
	for _, o := range mac.FHDR.FOpts {
		out.fOpts = append(out.fOpts, o.(*lorawan.MACCommand).CID)
	}
	if mac.FPort != nil {
		out.port = *mac.FPort
		b.check(phy.DecryptFRMPayload(lorawan.AES128Key(keys[1])))
		if len(mac.FRMPayload) > 0 {
			out.payload = string(mac.FRMPayload[0].(*lorawan.DataPayload).Bytes)
		}
	}
	return out
}

func types(events []Event) []messages.EventType {
	var out []messages.EventType
	for _, e := range events {
		out = append(out, e.Type)
	}
	return out
}

func wantTypes(t *testing.T, d Decision, want ...messages.EventType) {
	t.Helper()
	if diff := cmp.Diff(want, types(d.Events)); diff != "" {
		t.Fatalf("events: %s", diff)
	}
}

var cmpDown = cmp.AllowUnexported(down{})

func TestUplinkIsDecryptedAndCounted(t *testing.T) {
	b := abp(t)
	d := b.must(b.uplink(up{fCnt: 7, port: 2, payload: []byte("hello"), gateways: []byte{1, 2, 3}}))
	wantTypes(t, d, messages.EventUplink)
	u := d.Events[0].Uplink
	if string(u.FRMPayload) != "hello" || u.FPort != 2 || u.FCnt != 7 || len(u.Rx) != 3 || u.Rx[0].GatewayEUI != (messages.EUI64{3}) || d.Transmit != nil {
		t.Fatalf("got %+v, transmit %v", u, d.Transmit)
	}
	if b.s.Session.LastFCntUp != 7 {
		t.Fatalf("FCntUp %d", b.s.Session.LastFCntUp)
	}
}

// LoRaWAN 1.0.4 §4.3.1.5
func TestReplayedAndForeignUplinksAreRefused(t *testing.T) {
	b := abp(t)
	old := b.uplink(up{fCnt: 5, port: 1, payload: []byte{1}})
	b.must(old)
	b.must(b.uplink(up{fCnt: 6, port: 1, payload: []byte{1}}))
	for name, c := range map[string]struct {
		cmd  Command
		want error
	}{
		"older frame":                 {old, ErrReplay},
		"same counter, other payload": {b.uplink(up{fCnt: 6, port: 1, payload: []byte{9}}), ErrReplay},
		"same frame":                  {b.uplink(up{fCnt: 6, port: 1, payload: []byte{1}}), ErrRepetition},
		"wrong key":                   {b.uplink(up{fCnt: 7, port: 1, keys: [2]messages.Key{{9}, {9}}}), ErrMIC},
		"other address":               {b.uplink(up{fCnt: 7, port: 1, addr: messages.DevAddr{9}}), ErrNoSession},
		"gap of more than 16384":      {b.uplink(up{fCnt: 6 + 16385, port: 1}), ErrGap},
	} {
		if _, err := b.try(c.cmd); !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", name, err, c.want)
		}
	}
	b.p.Version = 4
	b.must(b.uplink(up{fCnt: 6 + 16385, port: 1})) // 1.0.4 has no MAX_FCNT_GAP
}

func TestCountersOf32BitsTurnOver(t *testing.T) {
	b := abp(t)
	b.p.Version = 4
	for _, fCnt := range []uint32{0xfffe, 0xffff, 0x10000, 0x10001, 0x1ffff, 0x20000} {
		if d := b.must(b.uplink(up{fCnt: fCnt, port: 1, payload: []byte{1}})); d.Events[0].Uplink.FCnt != fCnt {
			t.Fatalf("got %d, want %d", d.Events[0].Uplink.FCnt, fCnt)
		}
	}
}

func TestDeviceThatCounts16BitsStartsAgainAtZero(t *testing.T) {
	b := abp(t)
	b.p.FCnt16 = true
	seen := map[string]bool{}
	for _, fCnt := range []uint32{0xfffe, 0xffff, 0, 1} {
		d := b.must(b.uplink(up{fCnt: fCnt, port: 1, payload: []byte{1}}))
		if d.Events[0].Uplink.FCnt != fCnt || seen[d.Events[0].ID] {
			t.Fatalf("got %d as %s, want %d", d.Events[0].Uplink.FCnt, d.Events[0].ID, fCnt)
		}
		seen[d.Events[0].ID] = true
	}
}

func TestResetOfTheCounterNeedsTheOperatorsWord(t *testing.T) {
	b := abp(t)
	first := b.must(b.uplink(up{fCnt: 0, port: 1, payload: []byte{1}}))
	b.must(b.uplink(up{fCnt: 9, port: 1, payload: []byte{1}}))
	again := b.uplink(up{fCnt: 0, port: 1, payload: []byte{2}})
	if _, err := b.try(again); !errors.Is(err, ErrReplay) {
		t.Fatalf("got %v", err)
	}
	b.p.ResetsFCnt = true
	d := b.must(again)
	if d.Events[0].ID == first.Events[0].ID {
		t.Fatal("an event id is used twice")
	}
}

// A device of 16 bits that starts again could as well be far into its next turn.
func TestResetOfACounterOf16Bits(t *testing.T) {
	b := abp(t)
	b.p.FCnt16, b.p.ResetsFCnt = true, true
	ids := map[string]bool{}
	for i, fCnt := range []uint32{100, 101, 0, 1, 50, 0, 40000, 0, 65535, 0} { // from 65535 to 0 it goes on
		d := b.must(b.uplink(up{fCnt: fCnt, port: 1, payload: []byte{byte(i)}}))
		if got := d.Events[0].Uplink.FCnt; got != fCnt || ids[d.Events[0].ID] {
			t.Errorf("uplink %d: FCnt %d, want %d; id %s", i, got, fCnt, d.Events[0].ID)
		}
		ids[d.Events[0].ID] = true
	}
	b.p.ResetsFCnt = false
	if _, err := b.try(b.uplink(up{fCnt: 40000, port: 1, payload: []byte{2}})); !errors.Is(err, ErrGap) {
		t.Errorf("without the operator's word: %v", err)
	}
}

// LoRaWAN 1.0.4 §4.3.1.3
func TestRepeatedConfirmedUplinkIsAnsweredAgainButIsOneEvent(t *testing.T) {
	b := abp(t)
	cmd := b.uplink(up{fCnt: 1, port: 1, payload: []byte{1}, confirmed: true})
	first := b.read(b.must(cmd).Transmit, 1)
	if !first.ack {
		t.Fatalf("got %+v", first)
	}
	for i := range 5 {
		d := b.must(cmd)
		if got := b.read(d.Transmit, uint32(2+i)); !got.ack || len(d.Events) != 0 {
			t.Fatalf("repetition %d: %+v, %v", i, got, d.Events)
		}
	}
	if _, err := b.try(cmd); !errors.Is(err, ErrReplay) {
		t.Fatalf("the sixth repetition makes us transmit: %v", err)
	}
}

func (b *bench) push(items ...messages.Downlink) Decision {
	for i := range items {
		if items[i].FPort == 0 {
			items[i].FPort = 10
		}
	}
	return b.must(PushDownlinks{Items: items, Now: epoch, IDs: []string{"as"}})
}

func (b *bench) report(fCnt uint32, result messages.TxError) Decision {
	return b.must(ReportTransmission{SessionSeq: b.s.Session.Seq, FCnt: fCnt, Err: result, Now: epoch})
}

func TestUnconfirmedDownlinkIsQueuedAndSent(t *testing.T) {
	b := abp(t)
	d := b.push(messages.Downlink{ID: "a", FRMPayload: []byte("one"), CorrelationIDs: []string{"mine"}}, messages.Downlink{ID: "b", FRMPayload: []byte("two")})
	wantTypes(t, d, messages.EventDownQueued, messages.EventDownQueued)
	if ids := d.Events[0].CorrelationIDs; ids[0] != "mine" {
		t.Fatalf("correlation ids %v", ids)
	}
	d = b.must(b.uplink(up{fCnt: 1, port: 1, payload: []byte{1}}))
	wantTypes(t, d, messages.EventUplink)
	if diff := cmp.Diff(down{fCnt: 1, port: 10, payload: "one", pending: true}, b.read(d.Transmit, 1), cmpDown); diff != "" {
		t.Fatal(diff)
	}
	if len(d.Transmit.Windows) != 2 || d.Transmit.Windows[0].Delay != time.Second || d.Transmit.Windows[0].Frequency != 868100000 ||
		d.Transmit.Windows[1].Delay != 2*time.Second || d.Transmit.Windows[1].Frequency != 869525000 || d.Transmit.Windows[1].DataRate.SpreadingFactor != 12 {
		t.Fatalf("windows %+v", d.Transmit.Windows)
	}
	wantTypes(t, b.report(1, messages.TxOK), messages.EventDownSent)
	d = b.must(b.uplink(up{fCnt: 2, port: 1, payload: []byte{1}}))
	if diff := cmp.Diff(down{fCnt: 2, port: 10, payload: "two"}, b.read(d.Transmit, 2), cmpDown); diff != "" {
		t.Fatal(diff)
	}
	// Without a report, the next uplink settles it as sent.
	d = b.must(b.uplink(up{fCnt: 3, port: 1, payload: []byte{1}}))
	wantTypes(t, d, messages.EventUplink, messages.EventDownSent)
	if len(b.s.Queue) != 0 || d.Transmit != nil {
		t.Fatalf("queue %v", b.s.Queue)
	}
}

func TestConfirmedDownlinkStaysAtTheHeadUntilAcknowledged(t *testing.T) {
	b := abp(t)
	b.push(messages.Downlink{ID: "a", FRMPayload: []byte("one"), Confirmed: true, MaxAttempts: 3}, messages.Downlink{ID: "b", FRMPayload: []byte("two")})
	for i := range uint32(2) {
		d := b.must(b.uplink(up{fCnt: 1 + i, port: 1}))
		if got := b.read(d.Transmit, 1+i); got.payload != "one" || !got.confirmed {
			t.Fatalf("attempt %d: %+v", i, got)
		}
		if i == 1 {
			wantTypes(t, d, messages.EventUplink, messages.EventDownNack)
		}
		wantTypes(t, b.report(1+i, messages.TxOK), messages.EventDownSent)
	}
	d := b.must(b.uplink(up{fCnt: 3, port: 1, ack: true}))
	wantTypes(t, d, messages.EventUplink, messages.EventDownAck)
	if got := b.read(d.Transmit, 3); got.payload != "two" {
		t.Fatalf("got %+v", got)
	}
}

func TestConfirmedDownlinkFailsAfterItsAttempts(t *testing.T) {
	b := abp(t)
	b.push(messages.Downlink{ID: "a", FRMPayload: []byte("one"), Confirmed: true, MaxAttempts: 2})
	b.must(b.uplink(up{fCnt: 1, port: 1}))
	b.must(b.uplink(up{fCnt: 2, port: 1}))
	d := b.must(b.uplink(up{fCnt: 3, port: 1}))
	wantTypes(t, d, messages.EventUplink, messages.EventDownSent, messages.EventDownNack, messages.EventDownFailed)
	if e := d.Events[3]; e.Err.Name != "max_retries_reached" || e.Downlink.Attempt != 2 || len(b.s.Queue) != 0 {
		t.Fatalf("got %+v", e)
	}
}

func TestTransmissionThatNoRadioGatewayTakesFailsTheDownlink(t *testing.T) {
	b := abp(t)
	b.push(messages.Downlink{ID: "a", FRMPayload: []byte("one")})
	b.must(b.uplink(up{fCnt: 1, port: 1}))
	d := b.report(1, messages.TxTooLate)
	wantTypes(t, d, messages.EventDownFailed)
	if b.report(1, messages.TxOK).Changed {
		t.Fatal("a report is taken twice")
	}
}

func TestDownlinkThatMissedItsWindowsWaitsForTheNextUplink(t *testing.T) {
	b := abp(t)
	b.push(messages.Downlink{ID: "a", FRMPayload: []byte("one")})
	b.must(b.uplink(up{fCnt: 1, port: 1}))
	d := b.must(ReportTransmission{SessionSeq: b.s.Session.Seq, FCnt: 1, Missed: true, Now: epoch})
	if len(d.Events) != 0 || len(b.s.Queue) != 1 {
		t.Fatalf("got %+v", d)
	}
	d = b.must(b.uplink(up{fCnt: 2, port: 1}))
	wantTypes(t, d, messages.EventUplink)
	if got := b.read(d.Transmit, 2); got.payload != "one" { // counter 1 is burnt
		t.Fatalf("got %+v", got)
	}
}

func TestDownlinkThatFitsNoWindowFailsAloud(t *testing.T) {
	b := abp(t)
	b.push(messages.Downlink{ID: "a", FRMPayload: make([]byte, 100)}, messages.Downlink{ID: "b", FRMPayload: []byte("two")})
	d := b.must(b.uplink(up{fCnt: 1, port: 1, dr: messages.DataRate{SpreadingFactor: 12, Bandwidth: 125000}}))
	wantTypes(t, d, messages.EventUplink, messages.EventDownFailed)
	if got := b.read(d.Transmit, 1); d.Events[1].Err.Name != "application_downlink_too_long" || got.payload != "two" {
		t.Fatalf("got %+v", got)
	}
	b.push(messages.Downlink{ID: "c", FRMPayload: make([]byte, 100)})
	d = b.must(b.uplink(up{fCnt: 2, port: 1})) // SF7: RX1 carries it, RX2 at SF12 does not
	if len(d.Transmit.Windows) != 1 || d.Transmit.Windows[0].Delay != time.Second {
		t.Fatalf("windows %+v", d.Transmit.Windows)
	}
}

func TestQueueIsReplacedAndCleared(t *testing.T) {
	b := abp(t)
	b.push(messages.Downlink{ID: "a", FRMPayload: []byte("one")})
	b.must(PushDownlinks{Replace: true, Items: []messages.Downlink{{ID: "b", FPort: 1, FRMPayload: []byte("two")}}, Now: epoch})
	if len(b.s.Queue) != 1 || b.s.Queue[0].ID != "b" {
		t.Fatalf("queue %+v", b.s.Queue)
	}
	b.must(PushDownlinks{Replace: true, Now: epoch})
	if len(b.s.Queue) != 0 {
		t.Fatalf("queue %+v", b.s.Queue)
	}
}

func TestRequestThatComesTwiceIsQueuedOnce(t *testing.T) {
	b := abp(t)
	push := PushDownlinks{Items: []messages.Downlink{{ID: "a", FPort: 1, FRMPayload: []byte("one")}, {ID: "b", FPort: 1, FRMPayload: []byte("two")}}, Now: epoch}
	b.must(push)
	if d := b.must(push); len(b.s.Queue) != 2 || len(d.Events) != 0 {
		t.Fatalf("queue %+v, events %+v", b.s.Queue, d.Events)
	}
}

func TestQueueIsBounded(t *testing.T) {
	b := abp(t)
	items := make([]messages.Downlink, MaxQueue+1)
	for i := range items {
		items[i] = messages.Downlink{ID: "a", FPort: 1}
	}
	var e *messages.Error
	if _, err := b.try(PushDownlinks{Items: items, Now: epoch}); !errors.As(err, &e) || e.Name != "downlink_queue_capacity" {
		t.Fatalf("got %v", err)
	}
}

func TestMACCommandsOfTheDeviceAreAnswered(t *testing.T) {
	for name, u := range map[string]up{
		"in FOpts":   {fCnt: 1, port: 1, fOpts: []lorawan.MACCommand{{CID: lorawan.LinkCheckReq}, {CID: lorawan.DeviceTimeReq}}},
		"on FPort 0": {fCnt: 1, onPort0: []lorawan.MACCommand{{CID: lorawan.LinkCheckReq}, {CID: lorawan.DeviceTimeReq}}},
	} {
		b := abp(t)
		u.gateways = []byte{1, 2}
		d := b.must(b.uplink(u))
		got := b.read(d.Transmit, 1)
		if diff := cmp.Diff([]lorawan.CID{lorawan.LinkCheckAns, lorawan.DeviceTimeAns}, got.fOpts); diff != "" {
			t.Fatalf("%s: %s", name, diff)
		}
		if ev := d.Events[0].Uplink; name == "on FPort 0" && (ev.FPort != 0 || ev.FRMPayload != nil) {
			t.Fatalf("%s: MAC commands are shown to the application: %+v", name, ev)
		}
	}
	var ans lorawan.LinkCheckAnsPayload
	b := abp(t)
	d := b.must(b.uplink(up{fCnt: 1, fOpts: []lorawan.MACCommand{{CID: lorawan.LinkCheckReq}}, gateways: []byte{1, 2}}))
	if err := ans.UnmarshalBinary(d.Transmit.PHYPayload[9:11]); err != nil || ans.GwCnt != 2 || ans.Margin != 13 { // SNR 6 over -7.5 at SF7
		t.Fatalf("got %+v, %v", ans, err)
	}
}

func TestDevStatusAnsIsKept(t *testing.T) {
	b := abp(t)
	d := b.must(b.uplink(up{fCnt: 1, port: 1, fOpts: []lorawan.MACCommand{{CID: lorawan.DevStatusAns, Payload: &lorawan.DevStatusAnsPayload{Battery: 100, Margin: -3}}}}))
	if got := d.Events[0].Uplink.Battery; got == nil || got.Value != 100 || got.Margin != -3 || b.s.Battery == nil {
		t.Fatalf("got %+v", got)
	}
}

func TestADRACKReqIsAnswered(t *testing.T) {
	b := abp(t)
	if d := b.must(b.uplink(up{fCnt: 1, port: 1, adrACKReq: true})); d.Transmit == nil {
		t.Fatal("no answer")
	}
}

func TestEarlyCloseNeedsEveryRadioGatewayThatUsuallyHears(t *testing.T) {
	b := abp(t)
	one, two := b.uplink(up{fCnt: 1, port: 1}), b.uplink(up{fCnt: 2, port: 1, gateways: []byte{1, 2}})
	if b.s.AllReported(one.Copies) {
		t.Fatal("nothing is known before the first uplink")
	}
	b.must(one)
	if !b.s.AllReported(one.Copies) {
		t.Fatal("the only radio gateway has reported")
	}
	one = b.uplink(up{fCnt: 2, port: 1})
	one.Late = []messages.EUI64{{2}}
	b.must(one)
	if b.s.AllReported(two.Copies[:1]) || !b.s.AllReported(two.Copies) {
		t.Fatal("a radio gateway whose copy came late is waited for next time")
	}
	for i := range uint32(5) {
		b.must(b.uplink(up{fCnt: 3 + i, port: 1}))
	}
	if !b.s.AllReported(two.Copies[:1]) {
		t.Fatal("a radio gateway that hears no more is waited for no more")
	}
}

func TestSessionInPartsTakesUplinksWhenItIsWhole(t *testing.T) {
	b := newBench(t, "EU_863_870")
	b.must(SetSession{DevAddr: addr, AppSKey: appSKey, Now: epoch})
	if _, err := b.try(b.uplink(up{fCnt: 0, port: 1})); !errors.Is(err, ErrNoSession) {
		t.Fatalf("got %v", err)
	}
	b.must(SetSession{DevAddr: addr, NwkSKey: nwkSKey, Now: epoch})
	if d := b.must(b.uplink(up{fCnt: 0, port: 1, payload: []byte("x")})); string(d.Events[0].Uplink.FRMPayload) != "x" {
		t.Fatalf("got %+v", d.Events[0].Uplink)
	}
}

func TestSettingTheSameSessionNeverTurnsCountersBack(t *testing.T) {
	b := abp(t)
	for i := range uint32(4) {
		b.must(b.uplink(up{fCnt: i, port: 1, confirmed: true}))
	}
	next := b.s.Session.NextFCntDown
	b.must(SetSession{DevAddr: addr, NwkSKey: nwkSKey, AppSKey: appSKey, LastFCntDown: 1, Now: epoch})
	b.must(Reset{})
	if b.s.Session.NextFCntDown != next {
		t.Fatalf("FCntDown went from %d to %d", next, b.s.Session.NextFCntDown)
	}
	b.must(SetSession{DevAddr: addr, NwkSKey: nwkSKey, AppSKey: appSKey, LastFCntDown: 100, Now: epoch})
	if b.s.Session.NextFCntDown != 101 {
		t.Fatalf("FCntDown %d", b.s.Session.NextFCntDown)
	}
}

func TestPushWithoutASessionIsRefused(t *testing.T) {
	b := newBench(t, "EU_863_870")
	if _, err := b.try(PushDownlinks{Items: []messages.Downlink{{FPort: 1}}, Now: epoch}); !errors.Is(err, ErrNoSession) {
		t.Fatalf("got %v", err)
	}
}

func TestChannelMaskIsAskedForOnceItIsAcknowledged(t *testing.T) {
	b := newBench(t, "US_902_928_FSB_2")
	b.must(SetSession{DevAddr: addr, NwkSKey: nwkSKey, AppSKey: appSKey, Now: epoch})
	u := up{fCnt: 0, port: 1, frequency: 903900000, dr: messages.DataRate{SpreadingFactor: 7, Bandwidth: 125000}}
	got := b.read(b.must(b.uplink(u)).Transmit, 1)
	if len(got.fOpts) == 0 || got.fOpts[0] != lorawan.LinkADRReq {
		t.Fatalf("got %+v", got)
	}
	u.fCnt, u.fOpts = 1, []lorawan.MACCommand{{CID: lorawan.LinkADRAns, Payload: &lorawan.LinkADRAnsPayload{ChannelMaskACK: true, DataRateACK: true, PowerACK: true}}}
	if d := b.must(b.uplink(u)); d.Transmit != nil {
		t.Fatal("asked again")
	}
}
