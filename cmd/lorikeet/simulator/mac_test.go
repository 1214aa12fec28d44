package simulator

import (
	"testing"
	"time"

	"github.com/brocaar/lorawan"
	"github.com/brocaar/lorawan/band"

	"lorikeet/messages"
)

var testSession = Session{DevAddr: messages.DevAddr{1, 2, 3, 4}, NwkSKey: messages.Key{1}, AppSKey: messages.Key{2}}

func newABP(t *testing.T, s Session, r Region) *MAC {
	t.Helper()
	m, err := NewMAC(MACConfig{ABP: &s, Region: r, SubBand: 2, DataRate: -1, ADR: true})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// down is a downlink as a server makes it, with the library.
type down struct {
	fCnt      uint32
	fPort     uint8
	payload   []byte
	confirmed bool
	ack       bool
	commands  []lorawan.Payload
}

func (d down) bytes(t *testing.T, s Session) []byte {
	t.Helper()
	b, err := d.encode(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (d down) encode(s Session) ([]byte, error) {
	phy := lorawan.PHYPayload{MHDR: lorawan.MHDR{MType: lorawan.UnconfirmedDataDown}}
	if d.confirmed {
		phy.MHDR.MType = lorawan.ConfirmedDataDown
	}
	p := &lorawan.MACPayload{FHDR: lorawan.FHDR{DevAddr: lorawan.DevAddr(s.DevAddr), FCnt: d.fCnt, FOpts: d.commands, FCtrl: lorawan.FCtrl{ACK: d.ack}}}
	phy.MACPayload = p
	if d.fPort > 0 {
		p.FPort = &d.fPort
		p.FRMPayload = []lorawan.Payload{&lorawan.DataPayload{Bytes: append([]byte(nil), d.payload...)}}
		if err := phy.EncryptFRMPayload(lorawan.AES128Key(s.AppSKey)); err != nil {
			return nil, err
		}
	}
	if err := phy.SetDownlinkDataMIC(lorawan.LoRaWAN1_0, 0, lorawan.AES128Key(s.NwkSKey)); err != nil {
		return nil, err
	}
	return phy.MarshalBinary()
}

// rx1 is b in RX1 of up.
func rx1(m *MAC, up Transmission, b []byte) Reception {
	w := m.windows[len(m.windows)-1]
	return Reception{PHYPayload: b, Frequency: w.frequency[0], DataRate: w.dataRate[0], After: []Elapsed{{up.Sequence, w.delay1}}}
}

func mustSend(t *testing.T, m *MAC, u Uplink) (Transmission, *lorawan.PHYPayload) {
	t.Helper()
	up, err := m.Uplink(u)
	if err != nil {
		t.Fatal(err)
	}
	return up, readUplink(t, m, up)
}

func readUplink(t *testing.T, m *MAC, up Transmission) *lorawan.PHYPayload {
	t.Helper()
	var phy lorawan.PHYPayload
	if err := phy.UnmarshalBinary(up.PHYPayload); err != nil {
		t.Fatal(err)
	}
	phy.MACPayload.(*lorawan.MACPayload).FHDR.FCnt = up.FCnt
	nwk := lorawan.AES128Key(m.Session().NwkSKey)
	if ok, err := phy.ValidateUplinkDataMIC(lorawan.LoRaWAN1_0, 0, 0, 0, nwk, nwk); err != nil || !ok {
		t.Fatalf("MIC of the uplink: %v %v", ok, err)
	}
	if err := phy.DecodeFOptsToMACCommands(); err != nil {
		t.Fatal(err)
	}
	return &phy
}

// commands gives the MAC commands in the FOpts of an uplink.
func commands(phy *lorawan.PHYPayload) (out []lorawan.MACCommand) {
	for _, o := range phy.MACPayload.(*lorawan.MACPayload).FHDR.FOpts {
		out = append(out, *o.(*lorawan.MACCommand))
	}
	return out
}

func TestPlanMatchesLibrary(t *testing.T) {
	t.Parallel()
	for region, name := range map[Region]band.Name{EU868: band.EU868, US915: band.US915} {
		p, err := planOf(region)
		if err != nil {
			t.Fatal(err)
		}
		b, err := band.GetConfig(name, false, lorawan.DwellTimeNoLimit)
		if err != nil {
			t.Fatal(err)
		}
		for i, c := range p.channels {
			if c.frequency == 0 {
				continue
			}
			want, err := b.GetUplinkChannel(i)
			if err != nil || want.Frequency != c.frequency || want.MinDR != c.minDR || min(want.MaxDR, p.uplinkDRs-1) != c.maxDR && want.MaxDR != c.maxDR { // LR-FHSS is left out
				t.Errorf("%s channel %d: %+v, library %+v", region, i, c, want)
			}
			if f, err := b.GetRX1FrequencyForUplinkFrequency(c.frequency); err != nil || f != p.rx1Frequency(c, i) {
				t.Errorf("%s RX1 of channel %d: %d, library %d", region, i, p.rx1Frequency(c, i), f)
			}
		}
		for dr, n := range p.maxPayload {
			if size, err := b.GetMaxPayloadSizeForDataRateIndex("1.0.3", "A", dr); n > 0 && (err != nil || size.N != n) {
				t.Errorf("%s data rate %d: N %d, library %d (%v)", region, dr, n, size.N, err)
			}
		}
		for up := range p.uplinkDRs {
			for offset := range p.maxDR1Offset + 1 {
				if want, err := b.GetRX1DataRateIndex(up, offset); err != nil || want != p.rx1DataRate(up, offset) {
					t.Errorf("%s RX1 data rate of %d, offset %d: %d, library %d", region, up, offset, p.rx1DataRate(up, offset), want)
				}
			}
		}
		if d := b.GetDefaults(); d.RX2Frequency != p.rx2Frequency || d.RX2DataRate != p.rx2DataRate {
			t.Errorf("%s RX2: %d/%d, library %+v", region, p.rx2Frequency, p.rx2DataRate, d)
		}
	}
}

func TestDownlinkWindows(t *testing.T) {
	t.Parallel()
	base := func(m *MAC, up Transmission, b []byte) Reception { return rx1(m, up, b) }
	for name, c := range map[string]struct {
		change func(*Reception)
		want   Reason
		window int
	}{
		"RX1":                  {func(*Reception) {}, "", 1},
		"RX1, 20 µs late":      {func(r *Reception) { r.After[0].Delay += 20 * time.Microsecond }, "", 1},
		"RX1, 21 µs late":      {func(r *Reception) { r.After[0].Delay += 21 * time.Microsecond }, OutsideWindow, 0},
		"RX1, wrong frequency": {func(r *Reception) { r.Frequency += 200_000 }, WrongFrequency, 0},
		"RX1, wrong data rate": {func(r *Reception) { r.DataRate = "SF9BW125" }, WrongDataRate, 0},
		"RX2": {func(r *Reception) {
			*r = Reception{r.PHYPayload, 869_525_000, "SF12BW125", []Elapsed{{1, 2 * time.Second}}, false, false}
		}, "", 2},
		"RX2 with settings of RX1": {func(r *Reception) { r.After[0].Delay += time.Second }, WrongFrequency, 0},
		"other transmission":       {func(r *Reception) { r.After[0].Sequence++ }, OutsideWindow, 0},
		"immediately":              {func(r *Reception) { r.After, r.Immediate = nil, true }, OutsideWindow, 0},
		"MIC":                      {func(r *Reception) { r.PHYPayload[len(r.PHYPayload)-1] ^= 1 }, WrongMIC, 0},
		"address":                  {func(r *Reception) { r.PHYPayload[1] ^= 1 }, UnknownAddress, 0},
		"cut":                      {func(r *Reception) { r.PHYPayload = r.PHYPayload[:7] }, Malformed, 0},
		"refused":                  {func(r *Reception) { r.Unsent = true }, UnsentFrame, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newABP(t, testSession, EU868)
			up, _ := mustSend(t, m, Uplink{FPort: 1, Payload: []byte("x")})
			r := base(m, up, down{fPort: 3, payload: []byte("hello")}.bytes(t, testSession))
			c.change(&r)
			d, err := m.Receive(r)
			if ReasonOf(err) != c.want {
				t.Fatalf("got %v, want %q", err, c.want)
			}
			if err == nil && (d.Window != c.window || string(d.Payload) != "hello" || d.FPort != 3) {
				t.Errorf("got %+v", d)
			}
		})
	}
}

func TestClassCHearsRX2AtAnyTime(t *testing.T) {
	t.Parallel()
	m, err := NewMAC(MACConfig{ABP: &testSession, Region: EU868, DataRate: 5, ClassC: true})
	if err != nil {
		t.Fatal(err)
	}
	d, err := m.Receive(Reception{PHYPayload: down{fPort: 1, payload: []byte("c")}.bytes(t, testSession), Frequency: 869_525_000, DataRate: "SF12BW125", Immediate: true})
	if err != nil || d.Window != 0 || string(d.Payload) != "c" {
		t.Errorf("got %+v, %v", d, err)
	}
}

// TestFCntDown is the judge's part: what is reuse, what is allowed repetition, and what a refused frame leaves behind.
func TestFCntDown(t *testing.T) {
	t.Parallel()
	m := newABP(t, testSession, EU868)
	receive := func(d down, unsent bool) error {
		t.Helper()
		up, _ := mustSend(t, m, Uplink{FPort: 1})
		r := rx1(m, up, d.bytes(t, testSession))
		r.Unsent = unsent
		_, err := m.Receive(r)
		return err
	}
	for i, step := range []struct {
		d      down
		unsent bool
		want   Reason
	}{
		{d: down{fCnt: 0, fPort: 1, payload: []byte("a")}},
		{d: down{fCnt: 0, fPort: 1, payload: []byte("a")}, want: Repeated},
		{d: down{fCnt: 0, fPort: 1, payload: []byte("b")}, want: FCntDownReused},
		{d: down{fCnt: 1, fPort: 1, payload: []byte("a")}, unsent: true, want: UnsentFrame},
		{d: down{fCnt: 1, fPort: 1, payload: []byte("b")}, want: FCntDownReused},
		{d: down{fCnt: 1, fPort: 1, payload: []byte("a")}},
		{d: down{fCnt: 5, fPort: 1, payload: []byte("a")}},
		{d: down{fCnt: 3, fPort: 1, payload: []byte("a")}, want: FCntTooLow},
		{d: down{fCnt: 5, ack: true}, unsent: true, want: FCntDownReused},
		{d: down{fCnt: 5 + 1 + maxFCntGap, fPort: 1}, want: FCntGap},
		{d: down{fCnt: 5 + maxFCntGap, fPort: 1}},
	} {
		if got := ReasonOf(receive(step.d, step.unsent)); got != step.want {
			t.Errorf("step %d: got %q, want %q", i, got, step.want)
		}
	}
}

func TestFCntDownRollsOver(t *testing.T) {
	t.Parallel()
	s := testSession
	m, err := NewMAC(MACConfig{ABP: &s, Region: EU868, DataRate: 5, State: State{FCntUp: 0xFFFF, FCntDown: 0xFFFF}})
	if err != nil {
		t.Fatal(err)
	}
	for _, fCnt := range []uint32{0xFFFF, 0x10000} {
		up, _ := mustSend(t, m, Uplink{FPort: 1})
		if up.FCnt != fCnt {
			t.Errorf("FCntUp %#x, want %#x", up.FCnt, fCnt)
		}
		d, err := m.Receive(rx1(m, up, down{fCnt: fCnt, ack: true}.bytes(t, s)))
		if err != nil || d.FCnt != fCnt {
			t.Errorf("FCntDown %#x: %+v, %v", fCnt, d, err)
		}
	}
}

func TestConfirmedUplinkRepeats(t *testing.T) {
	t.Parallel()
	m := newABP(t, testSession, EU868)
	up, phy := mustSend(t, m, Uplink{FPort: 1, Payload: []byte("x"), Confirmed: true})
	if phy.MHDR.MType != lorawan.ConfirmedDataUp {
		t.Errorf("message type %v", phy.MHDR.MType)
	}
	before, n := up.Frequency, 1
	var last Transmission
	for {
		r, ok := m.Repeat()
		if !ok {
			break
		}
		if n++; r.Frequency == before || string(r.PHYPayload) != string(up.PHYPayload) || r.Sequence == up.Sequence {
			t.Errorf("repetition %d: %+v after %d Hz", n, r, before)
		}
		before, last = r.Frequency, r
	}
	if n != confirmedTries {
		t.Errorf("sent %d times, want %d", n, confirmedTries)
	}
	if _, err := m.Receive(rx1(m, last, down{ack: true}.bytes(t, testSession))); err != nil || m.WaitsForAck() {
		t.Errorf("after the ACK: %v, still waits: %v", err, m.WaitsForAck())
	}
	mustSend(t, m, Uplink{FPort: 1, Confirmed: true})
	up, _ = mustSend(t, m, Uplink{FPort: 1, Confirmed: true})
	if _, err := m.Receive(rx1(m, up, down{fCnt: 1, ack: true}.bytes(t, testSession))); err != nil {
		t.Fatal(err)
	}
	if _, ok := m.Repeat(); ok {
		t.Error("an acknowledged uplink is repeated")
	}
}

func TestConfirmedDownlinkIsAcknowledgedOnce(t *testing.T) {
	t.Parallel()
	m := newABP(t, testSession, EU868)
	up, _ := mustSend(t, m, Uplink{FPort: 1})
	if _, err := m.Receive(rx1(m, up, down{confirmed: true, fPort: 1}.bytes(t, testSession))); err != nil {
		t.Fatal(err)
	}
	for _, want := range []bool{true, false} {
		_, phy := mustSend(t, m, Uplink{})
		if got := phy.MACPayload.(*lorawan.MACPayload).FHDR.FCtrl.ACK; got != want {
			t.Errorf("ACK %v, want %v", got, want)
		}
	}
}

func TestADRAckReq(t *testing.T) {
	t.Parallel()
	m := newABP(t, testSession, EU868)
	for i := 1; i <= adrAckLimit+adrAckDelay; i++ {
		_, phy := mustSend(t, m, Uplink{FPort: 1})
		f := phy.MACPayload.(*lorawan.MACPayload).FHDR.FCtrl
		if !f.ADR || f.ADRACKReq != (i >= adrAckLimit) {
			t.Fatalf("uplink %d: %+v", i, f)
		}
	}
	if m.DataRate() != 4 {
		t.Errorf("data rate %d after %d uplinks without an answer, want 4", m.DataRate(), adrAckLimit+adrAckDelay)
	}
}

func TestRefusedUplinks(t *testing.T) {
	t.Parallel()
	m := newABP(t, testSession, US915)
	for name, u := range map[string]Uplink{"too long": {FPort: 1, Payload: make([]byte, 243)}, "no FPort": {Payload: []byte("x")}} {
		if _, err := m.Uplink(u); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if m.State().FCntUp != 0 {
		t.Errorf("a refused uplink used FCntUp %d", m.State().FCntUp)
	}
	otaa, err := NewMAC(MACConfig{Region: EU868, State: State{DevNonce: 0xFFFF}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := otaa.Uplink(Uplink{FPort: 1}); err == nil {
		t.Error("an uplink without a session")
	}
	if _, err := otaa.JoinRequest(); err != nil {
		t.Error(err)
	}
	if _, err := otaa.JoinRequest(); err == nil {
		t.Error("DevNonce 65536 is used")
	}
}

// TestUS915Join covers CFList type 1, the alternation of join data rates and RX1 of a masked channel.
func TestUS915Join(t *testing.T) {
	t.Parallel()
	key := messages.Key{9}
	m, err := NewMAC(MACConfig{AppKey: key, Region: US915, SubBand: 2, DataRate: -1})
	if err != nil {
		t.Fatal(err)
	}
	first, err := m.JoinRequest()
	if err != nil {
		t.Fatal(err)
	}
	second, err := m.JoinRequest()
	if err != nil {
		t.Fatal(err)
	}
	if first.DataRate != "SF10BW125" || second.DataRate != "SF8BW500" {
		t.Errorf("join with %s, then %s", first.DataRate, second.DataRate)
	}
	b := joinAccept(t, key, lorawan.JoinAcceptPayload{JoinNonce: 7, DevAddr: lorawan.DevAddr{1, 1, 1, 1}, RXDelay: 2, DLSettings: lorawan.DLSettings{RX2DataRate: 8, RX1DROffset: 1},
		CFList: &lorawan.CFList{CFListType: lorawan.CFListChannelMask, Payload: &lorawan.CFListChannelMaskPayload{ChannelMasks: []lorawan.ChMask{{8: true}}}}})
	if _, err := m.Receive(Reception{PHYPayload: b, Frequency: 923_300_000, DataRate: "SF12BW500", After: []Elapsed{{second.Sequence, joinDelay1 + time.Second}}}); err != nil {
		t.Fatal(err)
	}
	up, _ := mustSend(t, m, Uplink{FPort: 1})
	if up.Frequency != 903_900_000 || up.DataRate != "SF7BW125" || m.RXDelay() != 2*time.Second {
		t.Errorf("uplink %+v, RX delay %s", up, m.RXDelay())
	}
	if r := rx1(m, up, nil); r.Frequency != 923_300_000 || r.DataRate != "SF8BW500" {
		t.Errorf("RX1 %d Hz %s", r.Frequency, r.DataRate)
	}
}

func TestJoinNonceReuse(t *testing.T) {
	t.Parallel()
	key := messages.Key{9}
	m, err := NewMAC(MACConfig{AppKey: key, Region: EU868})
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []Reason{"", JoinNonceReused} {
		r, err := m.JoinRequest()
		if err != nil {
			t.Fatal(err)
		}
		b := joinAccept(t, key, lorawan.JoinAcceptPayload{JoinNonce: 7, DevAddr: lorawan.DevAddr{1, 1, 1, byte(i)}, RXDelay: 1})
		if _, err := m.Receive(rx1(m, r, b)); ReasonOf(err) != want {
			t.Errorf("join %d: %v, want %q", i, err, want)
		}
	}
}

func joinAccept(t *testing.T, key messages.Key, p lorawan.JoinAcceptPayload) []byte {
	t.Helper()
	b, err := encodeJoinAccept(key, p)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func encodeJoinAccept(key messages.Key, p lorawan.JoinAcceptPayload) ([]byte, error) {
	phy := lorawan.PHYPayload{MHDR: lorawan.MHDR{MType: lorawan.JoinAccept}, MACPayload: &p}
	if err := phy.SetDownlinkJoinMIC(lorawan.JoinRequestType, lorawan.EUI64{}, 0, lorawan.AES128Key(key)); err != nil {
		return nil, err
	}
	if err := phy.EncryptJoinAcceptPayload(lorawan.AES128Key(key)); err != nil {
		return nil, err
	}
	return phy.MarshalBinary()
}

func FuzzReceive(f *testing.F) {
	b, err := down{fPort: 3, payload: []byte("hello")}.encode(testSession)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte{0x20})
	f.Add(make([]byte, 33))
	f.Fuzz(func(t *testing.T, b []byte) {
		m := newABP(t, testSession, EU868)
		up, _ := mustSend(t, m, Uplink{FPort: 1})
		if _, err := m.Receive(rx1(m, up, b)); err != nil && ReasonOf(err) == "" {
			t.Errorf("no reason: %v", err)
		}
	})
}

func BenchmarkUplink(b *testing.B) {
	s := testSession
	m, err := NewMAC(MACConfig{ABP: &s, Region: EU868, DataRate: 5})
	if err != nil {
		b.Fatal(err)
	}
	payload := make([]byte, 20)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := m.Uplink(Uplink{FPort: 1, Payload: payload}); err != nil {
			b.Fatal(err)
		}
	}
}
