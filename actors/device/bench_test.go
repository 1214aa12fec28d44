package device

import (
	"testing"

	"lorikeet/messages"
	"lorikeet/messages/frame"
)

// benchUplinks are n uplinks of one device, made before the clock starts.
func benchUplinks(b *testing.B, n int) (State, *Profile, []ReceiveUplink) {
	b.Helper()
	region, err := NewRegion("EU_863_870")
	if err != nil {
		b.Fatal(err)
	}
	p := &Profile{ID: messages.DeviceID{ApplicationID: "app", DeviceID: "dev"}, Version: 3, Region: region, RX1Delay: 1}
	d, err := Decide(State{}, p, SetSession{DevAddr: addr, NwkSKey: nwkSKey, AppSKey: appSKey, Now: epoch, Random: "r"})
	if err != nil {
		b.Fatal(err)
	}
	nwk, app := frame.NewCipher(nwkSKey), frame.NewCipher(appSKey)
	out := make([]ReceiveUplink, n)
	for i := range out {
		fCnt := uint32(i)
		phy := []byte{0x40, addr[3], addr[2], addr[1], addr[0], 0x80, byte(fCnt), byte(fCnt >> 8), 1}
		phy = append(phy, app.Crypt(false, addr, fCnt, make([]byte, 20))...)
		mic := nwk.MIC(false, addr, fCnt, phy)
		phy = append(phy, mic[:]...)
		out[i] = ReceiveUplink{Copies: copies(phy, messages.DataRate{SpreadingFactor: 7, Bandwidth: 125000, CodingRate: "4/5"}, 868100000), Now: epoch, Random: "r"}
	}
	return d.Next, p, out
}

// BenchmarkDecideUplink is the decision about one uplink of 20 bytes: MIC, decryption, counters, event. No actor, store or formatter.
func BenchmarkDecideUplink(b *testing.B) {
	const round = 10000
	start, p, uplinks := benchUplinks(b, round)
	b.ReportAllocs()
	s := start
	for n := 0; b.Loop(); n++ {
		if n%round == 0 {
			s = start
		}
		d, err := Decide(s, p, uplinks[n%round])
		if err != nil {
			b.Fatal(err)
		}
		s = d.Next
	}
}

// BenchmarkRecord writes and reads one session record.
func BenchmarkRecord(b *testing.B) {
	start, p, uplinks := benchUplinks(b, 30)
	s := start
	for _, u := range uplinks {
		d, err := Decide(s, p, u)
		if err != nil {
			b.Fatal(err)
		}
		s = d.Next
	}
	b.ReportAllocs()
	for b.Loop() {
		record, err := s.Marshal()
		if err == nil {
			_, err = Unmarshal(record)
		}
		if err != nil {
			b.Fatal(err)
		}
	}
}
