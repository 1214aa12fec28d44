package device

import (
	"errors"
	"testing"

	"github.com/brocaar/lorawan"
	"github.com/google/go-cmp/cmp"

	"lorikeet/messages"
)

func otaa(t *testing.T, plan string) *bench {
	b := newBench(t, plan)
	b.p.SupportsJoin = true
	return b
}

func (b *bench) joinRequest(nonce uint16, frequency uint64, dr messages.DataRate) ReceiveJoin {
	b.t.Helper()
	phy := lorawan.PHYPayload{MHDR: lorawan.MHDR{MType: lorawan.JoinRequest}, MACPayload: &lorawan.JoinRequestPayload{
		JoinEUI: lorawan.EUI64(b.p.JoinEUI), DevEUI: lorawan.EUI64(b.p.DevEUI), DevNonce: lorawan.DevNonce(nonce)}}
	b.check(phy.SetUplinkJoinMIC(lorawan.AES128Key(appKey)))
	bytes, err := phy.MarshalBinary()
	b.check(err)
	return ReceiveJoin{Copies: copies(bytes, dr, frequency), DevAddr: messages.DevAddr{0, 1, byte(nonce), 1}, SessionKeyID: []byte{byte(nonce)}, Now: epoch, Random: "r"}
}

var sf7 = messages.DataRate{SpreadingFactor: 7, Bandwidth: 125000}

// accept reads the join-accept as the device does.
func (b *bench) accept(t *Transmit) *lorawan.JoinAcceptPayload {
	b.t.Helper()
	var phy lorawan.PHYPayload
	b.check(phy.UnmarshalBinary(t.PHYPayload))
	b.check(phy.DecryptJoinAcceptPayload(lorawan.AES128Key(appKey)))
	ok, err := phy.ValidateDownlinkJoinMIC(lorawan.JoinRequestType, lorawan.EUI64{}, 0, lorawan.AES128Key(appKey))
	if err != nil || !ok {
		b.t.Fatalf("join-accept MIC: %v %v", ok, err)
	}
	return phy.MACPayload.(*lorawan.JoinAcceptPayload)
}

func TestJoinGivesASessionThatTheFirstUplinkProves(t *testing.T) {
	b := otaa(t, "EU_863_870_TTN")
	d := b.must(b.joinRequest(1, 868300000, sf7))
	wantTypes(t, d, messages.EventJoin)
	acc := b.accept(d.Transmit)
	if acc.JoinNonce != 1 || acc.RXDelay != 5 || acc.DLSettings.RX2DataRate != 3 || acc.CFList == nil {
		t.Fatalf("got %+v", acc)
	}
	if w := d.Transmit.Windows; len(w) != 2 || w[0].Delay.Seconds() != 5 || w[0].Frequency != 868300000 || w[1].Delay.Seconds() != 6 || w[1].DataRate.SpreadingFactor != 12 {
		t.Fatalf("windows %+v", w)
	}
	first := *b.s.Pending
	if b.s.Session != nil || first.DevAddr != messages.DevAddr(acc.DevAddr) {
		t.Fatalf("got %+v", b.s)
	}
	b.must(b.uplink(up{fCnt: 0, port: 1, payload: []byte("x"), addr: first.DevAddr, keys: [2]messages.Key{first.NwkSKey, first.AppSKey}}))
	if b.s.Pending != nil || b.s.Session.DevAddr != first.DevAddr {
		t.Fatal("not promoted")
	}

	// A second join: the first session serves on until an uplink proves the new one; then it is gone.
	b.must(b.joinRequest(2, 868300000, sf7))
	second := *b.s.Pending
	b.push(messages.Downlink{ID: "a", FRMPayload: []byte("one")})
	b.must(b.uplink(up{fCnt: 1, port: 1, addr: first.DevAddr, keys: [2]messages.Key{first.NwkSKey, first.AppSKey}}))
	if b.s.Pending == nil {
		t.Fatal("an uplink of the old session ended the new one")
	}
	b.report(0, messages.TxTooLate)
	b.push(messages.Downlink{ID: "b", FRMPayload: []byte("two")})
	d = b.must(b.uplink(up{fCnt: 0, port: 1, addr: second.DevAddr, keys: [2]messages.Key{second.NwkSKey, second.AppSKey}}))
	if got := b.read(d.Transmit, 0, second.NwkSKey, second.AppSKey); got.payload != "two" {
		t.Fatalf("the queue did not follow into the new session: %+v", got)
	}
	if _, err := b.try(b.uplink(up{fCnt: 2, port: 1, addr: first.DevAddr, keys: [2]messages.Key{first.NwkSKey, first.AppSKey}})); !errors.Is(err, ErrNoSession) {
		t.Fatalf("the old session still serves: %v", err)
	}
}

// LoRaWAN 1.0.3 §6.2.4 and 1.0.4 §6.2.5
func TestDevNoncesAreGoodOnce(t *testing.T) {
	for version, c := range map[Version]struct{ accepted, refused []uint16 }{
		3: {[]uint16{500, 3, 900, 4}, []uint16{500, 3, 900, 4}},
		4: {[]uint16{0, 3, 4, 900}, []uint16{0, 3, 4, 899, 900}},
	} {
		b := otaa(t, "EU_863_870")
		b.p.Version = version
		for i, n := range c.accepted {
			if acc := b.accept(b.must(b.joinRequest(n, 868100000, sf7)).Transmit); int(acc.JoinNonce) != i+1 {
				t.Fatalf("1.0.%d: JoinNonce %d, want %d", version, acc.JoinNonce, i+1)
			}
		}
		for _, n := range c.refused {
			if _, err := b.try(b.joinRequest(n, 868100000, sf7)); !errors.Is(err, ErrDevNonce) {
				t.Errorf("1.0.%d: DevNonce %d: %v", version, n, err)
			}
		}
	}
}

func TestJoinsThatCantBeAreRefused(t *testing.T) {
	for want, change := range map[error]func(*bench){
		ErrMIC:       func(b *bench) { b.p.AppKey = messages.Key{1} },
		ErrNoKey:     func(b *bench) { b.p.AppKey = messages.Key{} },
		ErrNoJoin:    func(b *bench) { b.p.SupportsJoin = false },
		ErrJoinNonce: func(b *bench) { b.s.LastJoinNonce = maxJoinNonce },
	} {
		b := otaa(t, "EU_863_870")
		change(b)
		if _, err := b.try(b.joinRequest(1, 868100000, sf7)); !errors.Is(err, want) {
			t.Errorf("got %v, want %v", err, want)
		}
	}
}

// RP002-1.0.4 §2.5: the channel mask of each sub-band, by CFList from 1.0.3 on.
func TestUS915SubBands(t *testing.T) {
	for fsb := range 8 {
		plan := "US_902_928_FSB_" + string(rune('1'+fsb))
		b := otaa(t, plan)
		d := b.must(b.joinRequest(1, uint64(902300000+200000*8*fsb), messages.DataRate{SpreadingFactor: 10, Bandwidth: 125000}))
		acc := b.accept(d.Transmit)
		if acc.CFList == nil || acc.CFList.CFListType != lorawan.CFListChannelMask {
			t.Fatalf("%s: CFList %+v", plan, acc.CFList)
		}
		var enabled []int
		for i, m := range acc.CFList.Payload.(*lorawan.CFListChannelMaskPayload).ChannelMasks {
			for j, on := range m {
				if on {
					enabled = append(enabled, 16*i+j)
				}
			}
		}
		var want []int
		for i := range 8 {
			want = append(want, 8*fsb+i)
		}
		if diff := cmp.Diff(append(want, 64+fsb), enabled); diff != "" {
			t.Fatalf("%s: %s", plan, diff)
		}
		if w := d.Transmit.Windows; w[0].Frequency != 923300000 || w[0].DataRate.SpreadingFactor != 10 || w[0].DataRate.Bandwidth != 500000 || w[1].Frequency != 923300000 || w[1].DataRate.SpreadingFactor != 12 {
			t.Fatalf("%s: windows %+v", plan, w)
		}
	}
	if _, err := NewRegion("US_902_928_FSB_9"); err == nil {
		t.Fatal("FSB 9 does not exist")
	}
}

func TestJoinTellsWhoHearsTheDevice(t *testing.T) {
	b := otaa(t, "EU_863_870")
	sf7 := messages.DataRate{SpreadingFactor: 7, Bandwidth: 125000, CodingRate: "4/5"}
	join := b.joinRequest(7, 868100000, sf7)
	join.Copies = copies(join.Copies[0].PHYPayload, sf7, 868100000, 3, 4)
	b.must(join)
	if b.s.AllReported(copies(nil, sf7, 868100000, 3)) {
		t.Error("one of two radio gateways is enough")
	}
	if !b.s.AllReported(copies(nil, sf7, 868100000, 4, 3)) {
		t.Error("the first uplink waits though both radio gateways have reported")
	}
}
