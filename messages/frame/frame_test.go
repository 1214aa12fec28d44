package frame

import (
	"bytes"
	"encoding/hex"
	"math/rand/v2"
	"testing"

	"github.com/brocaar/lorawan"

	"lorikeet/messages"
)

func randomKey(r *rand.Rand) (k messages.Key) {
	for i := range k {
		k[i] = byte(r.Uint32())
	}
	return k
}

func randomBytes(r *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// oracleUp builds an uplink with the other implementation.
func oracleUp(t *testing.T, r *rand.Rand, nwkSKey, appSKey messages.Key, addr messages.DevAddr, fCnt uint32, fOpts, payload []byte, port *uint8) []byte {
	t.Helper()
	mac := &lorawan.MACPayload{
		FHDR:  lorawan.FHDR{DevAddr: lorawan.DevAddr(addr), FCnt: fCnt, FCtrl: lorawan.FCtrl{ADR: r.IntN(2) == 0, ADRACKReq: r.IntN(2) == 0, ACK: r.IntN(2) == 0}},
		FPort: port,
	}
	if len(fOpts) > 0 {
		mac.FHDR.FOpts = []lorawan.Payload{&lorawan.DataPayload{Bytes: fOpts}}
	}
	if port != nil && len(payload) > 0 {
		mac.FRMPayload = []lorawan.Payload{&lorawan.DataPayload{Bytes: payload}}
	}
	phy := lorawan.PHYPayload{MHDR: lorawan.MHDR{MType: lorawan.UnconfirmedDataUp}, MACPayload: mac}
	if port != nil {
		if err := phy.EncryptFRMPayload(lorawan.AES128Key(appSKey)); err != nil {
			t.Fatal(err)
		}
	}
	if err := phy.SetUplinkDataMIC(lorawan.LoRaWAN1_0, 0, 0, 0, lorawan.AES128Key(nwkSKey), lorawan.AES128Key(nwkSKey)); err != nil {
		t.Fatal(err)
	}
	out, err := phy.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestUplinksOfAnotherImplementationAreReadAndChecked(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for i := range 500 {
		nwk, app := randomKey(r), randomKey(r)
		addr, fCnt := messages.DevAddr(randomBytes(r, 4)), r.Uint32()
		payload, port := randomBytes(r, r.IntN(60)), uint8(1+r.IntN(223))
		fOpts := randomBytes(r, r.IntN(16))
		phy := oracleUp(t, r, nwk, app, addr, fCnt, fOpts, payload, &port)
		d, err := ParseData(phy)
		if err != nil {
			t.Fatalf("%d: %v", i, err)
		}
		if d.DevAddr != addr || d.FCnt16 != uint16(fCnt) || !d.HasFPort || d.FPort != port || !bytes.Equal(d.FOpts, fOpts) {
			t.Fatalf("%d: got %+v", i, d)
		}
		if !NewCipher(nwk).CheckUp(addr, fCnt, phy) {
			t.Fatalf("%d: MIC refused", i)
		}
		if NewCipher(nwk).CheckUp(addr, fCnt+0x10000, phy) || NewCipher(app).CheckUp(addr, fCnt, phy) {
			t.Fatalf("%d: MIC accepted with the wrong counter or key", i)
		}
		if got := NewCipher(app).Crypt(false, addr, fCnt, d.FRMPayload); !bytes.Equal(got, payload) {
			t.Fatalf("%d: payload %x, want %x", i, got, payload)
		}
	}
}

func TestDownlinksAreReadByAnotherImplementation(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for i := range 300 {
		nwk, app := randomKey(r), randomKey(r)
		d := Downlink{
			Confirmed: r.IntN(2) == 0, ACK: r.IntN(2) == 0, FPending: r.IntN(2) == 0, DevAddr: messages.DevAddr(randomBytes(r, 4)), FCnt: r.Uint32(),
			HasFPort: true, FPort: uint8(r.IntN(224)), FRMPayload: randomBytes(r, 1+r.IntN(50)),
		}
		if d.FPort != 0 {
			d.FOpts = randomBytes(r, r.IntN(16))
		}
		var phy lorawan.PHYPayload
		if err := phy.UnmarshalBinary(d.Build(NewCipher(nwk), NewCipher(app))); err != nil {
			t.Fatalf("%d: %v", i, err)
		}
		mac := phy.MACPayload.(*lorawan.MACPayload)
		mac.FHDR.FCnt = d.FCnt
		if ok, err := phy.ValidateDownlinkDataMIC(lorawan.LoRaWAN1_0, 0, lorawan.AES128Key(nwk)); err != nil || !ok {
			t.Fatalf("%d: MIC refused (%v)", i, err)
		}
		key := app
		if d.FPort == 0 {
			key = nwk
		}
		got, err := lorawan.EncryptFRMPayload(lorawan.AES128Key(key), false, lorawan.DevAddr(d.DevAddr), d.FCnt, mac.FRMPayload[0].(*lorawan.DataPayload).Bytes)
		if err != nil || !bytes.Equal(got, d.FRMPayload) || mac.FHDR.FCtrl.ACK != d.ACK || mac.FHDR.FCtrl.FPending != d.FPending {
			t.Fatalf("%d: got %x, %+v; want %x, %+v (%v)", i, got, mac.FHDR.FCtrl, d.FRMPayload, d, err)
		}
	}
}

func TestJoinRequestOfAnotherImplementation(t *testing.T) {
	key := messages.Key{1, 2, 3}
	phy := lorawan.PHYPayload{MHDR: lorawan.MHDR{MType: lorawan.JoinRequest}, MACPayload: &lorawan.JoinRequestPayload{
		JoinEUI: lorawan.EUI64{1, 2, 3, 4, 5, 6, 7, 8}, DevEUI: lorawan.EUI64{9, 8, 7, 6, 5, 4, 3, 2}, DevNonce: 0x1234}}
	if err := phy.SetUplinkJoinMIC(lorawan.AES128Key(key)); err != nil {
		t.Fatal(err)
	}
	b, err := phy.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	got, err := ParseJoin(b)
	want := Join{JoinEUI: messages.EUI64{1, 2, 3, 4, 5, 6, 7, 8}, DevEUI: messages.EUI64{9, 8, 7, 6, 5, 4, 3, 2}, DevNonce: 0x1234}
	if err != nil || got != want || !NewCipher(key).CheckJoin(b) || NewCipher(messages.Key{}).CheckJoin(b) {
		t.Fatalf("got %+v, %v", got, err)
	}
}

// The AES-CMAC examples of RFC 4493 §4, cut to four bytes.
func TestCMACOfRFC4493(t *testing.T) {
	key, _ := messages.ParseKey("2b7e151628aed2a6abf7158809cf4f3c")
	msg, _ := hex.DecodeString("6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e5130c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710")
	for n, want := range map[int]string{0: "bb1d6929", 16: "070a16b4", 40: "dfa66747", 64: "51f0bebf"} {
		c := NewCipher(key)
		if got := c.cmac(nil, msg[:n]); hex.EncodeToString(got[:]) != want {
			t.Errorf("%d bytes: got %x, want %s", n, got, want)
		}
		if n >= 16 {
			if got := c.cmac(msg[:16], msg[16:n]); hex.EncodeToString(got[:]) != want {
				t.Errorf("%d bytes with a head: got %x, want %s", n, got, want)
			}
		}
	}
}

func TestNextFCnt(t *testing.T) {
	for _, c := range []struct {
		name  string
		last  uint32
		seen  bool
		low16 uint16
		want  uint32
		ok    bool
	}{
		{"first frame", 0, false, 0, 0, true},
		{"first frame of a device that counted before", 0, false, 0xffff, 0xffff, true},
		{"next", 5, true, 6, 6, true},
		{"repetition", 5, true, 5, 5, true},
		{"low half turns over", 0xffff, true, 0, 0x10000, true},
		{"behind means the next turn", 0x10005, true, 4, 0x20004, true},
		{"last counter", 0xfffffffe, true, 0xffff, 0xffffffff, true},
		{"repetition of the last counter", 0xffffffff, true, 0xffff, 0xffffffff, true},
		{"no counter left", 0xffffffff, true, 0, 0, false},
	} {
		if got, ok := NextFCnt(c.last, c.seen, c.low16); got != c.want || ok != c.ok {
			t.Errorf("%s: got %#x %v, want %#x %v", c.name, got, ok, c.want, c.ok)
		}
	}
}

func TestMalformedFramesAreRefused(t *testing.T) {
	for name, c := range map[string]struct {
		phy  string
		want error
	}{
		"empty": {"", ErrTooShort}, "four bytes": {"40010203", ErrTooShort}, "eleven bytes": {"4001020304000000aabbcc", ErrTooShort},
		"major 1": {"410102030400000001aabbccdd", ErrMajor}, "join-request": {"000102030400000001aabbccdd", ErrMType},
		"FOpts longer than the frame": {"40010203040f000001aabbccdd", ErrFOpts}, "FPort 0 with FOpts": {"400102030401000002" + "00" + "aabbccdd", ErrPort0},
	} {
		phy, err := hex.DecodeString(c.phy)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ParseData(phy); err != c.want {
			t.Errorf("%s: got %v, want %v", name, err, c.want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte{0x40, 1, 2, 3, 4, 0, 0, 0, 1, 2, 3, 4, 5})
	f.Add(make([]byte, 23))
	key := NewCipher(messages.Key{})
	f.Fuzz(func(t *testing.T, phy []byte) {
		if d, err := ParseData(phy); err == nil {
			n := 12 + len(d.FOpts) + len(d.FRMPayload)
			if d.HasFPort {
				n++
			}
			if n != len(phy) {
				t.Fatalf("parts add up to %d of %d bytes", n, len(phy))
			}
			key.CheckUp(d.DevAddr, uint32(d.FCnt16), phy)
		}
		if _, err := ParseJoin(phy); err == nil {
			key.CheckJoin(phy)
		}
	})
}

func BenchmarkUplink(b *testing.B) {
	r := rand.New(rand.NewPCG(5, 6))
	nwk, app, port := randomKey(r), randomKey(r), uint8(2)
	var t testing.T
	phy := oracleUp(&t, r, nwk, app, messages.DevAddr{1, 2, 3, 4}, 7, nil, randomBytes(r, 20), &port)
	b.ReportAllocs()
	for b.Loop() {
		d, err := ParseData(phy)
		if err != nil || !NewCipher(nwk).CheckUp(d.DevAddr, 7, phy) {
			b.Fatal("refused")
		}
		NewCipher(app).Crypt(false, d.DevAddr, 7, d.FRMPayload)
	}
}
