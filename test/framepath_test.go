package test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/brocaar/lorawan"

	"lorikeet/actors/device"
	"lorikeet/cluster"
	"lorikeet/messages"
	"lorikeet/messages/frame"
)

// path is the way of a frame from its bytes to the decision of its device: the parser, the directory and the device, as the server joins them.
type path struct {
	*testing.T
	directory *cluster.Directory
	profiles  map[messages.DeviceID]*device.Profile
	states    map[messages.DeviceID]device.State
	now       time.Time
}

// onePath has three devices: two ABP devices that share a DevAddr, and one that joins.
func onePath(t *testing.T, region *device.Region, version device.Version, fCnt16, resets bool) *path {
	t.Helper()
	p := &path{T: t, directory: cluster.NewDirectory(), profiles: map[messages.DeviceID]*device.Profile{}, states: map[messages.DeviceID]device.State{},
		now: time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)}
	for i := range byte(3) {
		id := messages.DeviceID{ApplicationID: "app", DeviceID: fmt.Sprintf("dev-%d", i)}
		p.profiles[id] = &device.Profile{ID: id, DevEUI: messages.EUI64{i}, JoinEUI: messages.EUI64{9}, Version: version, Region: region, AppKey: messages.Key{i, 1},
			SupportsJoin: i == 2, FCnt16: fCnt16, ResetsFCnt: resets}
		if i < 2 {
			p.decide(id, device.SetSession{DevAddr: messages.DevAddr{1, 2, 3, 4}, NwkSKey: messages.Key{i, 2}, AppSKey: messages.Key{i, 3}, Now: p.now, Random: "r"})
		}
	}
	return p
}

// decide gives a command to a device and lets the directory know, as the device's actor does.
func (p *path) decide(id messages.DeviceID, cmd device.Command) (device.Decision, error) {
	p.Helper()
	before, err := p.states[id].Marshal()
	if err != nil {
		p.Fatal(err)
	}
	d, err := device.Decide(p.states[id], p.profiles[id], cmd)
	if after, _ := p.states[id].Marshal(); string(after) != string(before) {
		p.Fatal("the state was written to")
	}
	if err != nil {
		if d.Changed || d.Transmit != nil || len(d.Events) > 0 {
			p.Fatalf("refused (%v), but with consequences: %+v", err, d)
		}
		return d, err
	}
	p.states[id] = d.Next
	var entries []messages.SessionEntry
	for _, ses := range []*device.Session{d.Next.Session, d.Next.Pending} {
		if ses != nil {
			entries = append(entries, messages.SessionEntry{DevAddr: ses.DevAddr, NwkSKey: ses.NwkSKey, LastFCntUp: ses.LastFCntUp, HasFCntUp: ses.HasFCntUp, FCnt16: ses.FCnt16, ResetsFCnt: ses.ResetsFCnt})
		}
	}
	p.directory.Set(id, entries...)
	return d, nil
}

func (p *path) copies(phy []byte) []messages.Frame {
	return []messages.Frame{{
		PHYPayload: phy, Settings: messages.TxSettings{DataRate: messages.DataRate{SpreadingFactor: 7, Bandwidth: 125000}, Frequency: 868100000},
		Rx: []messages.RxMetadata{{GatewayEUI: messages.EUI64{1}, SNR: 5}}, ReceivedAt: p.now,
	}}
}

// receive sends the bytes of a frame all the way, and checks that the directory and the devices say the same about it.
func (p *path) receive(phy []byte) {
	p.Helper()
	before := slices.Clone(phy)
	kind, err := frame.TypeOf(phy)
	if err != nil {
		return
	}
	data, dataErr := frame.ParseData(phy)
	if dataErr == nil && (kind == frame.UnconfirmedDataUp || kind == frame.ConfirmedDataUp) {
		p.uplink(data, phy)
	} else if join, err := frame.ParseJoin(phy); err == nil {
		p.join(join, phy)
	} else {
		for id := range p.profiles {
			if _, err := p.decide(id, device.ReceiveUplink{Copies: p.copies(phy), Now: p.now}); !errors.Is(err, device.ErrMalformed) {
				p.Fatalf("%x is not parsed, but the device says %v", phy, err)
			}
		}
	}
	if !slices.Equal(phy, before) {
		p.Fatal("the frame was written to")
	}
}

func (p *path) uplink(data frame.Data, phy []byte) {
	p.Helper()
	found, outcome, ok := p.directory.Lookup(data, phy)
	for id, profile := range p.profiles {
		_, err := device.Open(p.states[id], profile, phy)
		itsOwn := err == nil || !errors.Is(err, device.ErrMIC) && !errors.Is(err, device.ErrNoSession)
		switch {
		case ok && id == found && (errors.Is(err, device.ErrMIC) || errors.Is(err, device.ErrNoSession)):
			p.Fatalf("%x: the directory found %s, which says %v", phy, id, err)
		case !ok && err == nil:
			p.Fatalf("%x: %s takes it, but the directory says %s", phy, id, outcome)
		case ok && id != found && itsOwn:
			p.Fatalf("%x: found %s, but %s says %v", phy, found, id, err)
		}
	}
	if !ok {
		return
	}
	before := p.states[found].Session
	d, err := p.decide(found, device.ReceiveUplink{Copies: p.copies(phy), Now: p.now, Random: "r"})
	after := p.states[found].Session
	if err != nil || before == nil || before.Seq != after.Seq {
		return
	}
	if after.Resets == before.Resets && after.LastFCntUp < before.LastFCntUp || uint16(after.LastFCntUp) != data.FCnt16 {
		p.Fatalf("FCntUp went from %d to %d with %d on air", before.LastFCntUp, after.LastFCntUp, data.FCnt16)
	}
	if d.Transmit != nil && after.NextFCntDown != before.NextFCntDown+1 && !after.FCntDownSpent {
		p.Fatalf("FCntDown went from %d to %d with a downlink", before.NextFCntDown, after.NextFCntDown)
	}
	if _, err := p.decide(found, device.ReceiveUplink{Copies: p.copies(phy), Now: p.now, Random: "r"}); err == nil && !data.Confirmed() && !p.profiles[found].ResetsFCnt {
		p.Fatalf("%x is taken twice", phy)
	}
}

func (p *path) join(join frame.Join, phy []byte) {
	p.Helper()
	for id, profile := range p.profiles {
		if join.DevEUI != profile.DevEUI || join.JoinEUI != profile.JoinEUI {
			continue
		}
		nonce := p.states[id].LastJoinNonce
		cmd := device.ReceiveJoin{Copies: p.copies(phy), DevAddr: messages.DevAddr{1, 2, 3, 4}, SessionKeyID: []byte{1}, Now: p.now, Random: "r"}
		if _, err := p.decide(id, cmd); err != nil {
			continue
		}
		if p.states[id].LastJoinNonce != nonce+1 {
			p.Fatalf("JoinNonce went from %d to %d", nonce, p.states[id].LastJoinNonce)
		}
		if _, err := p.decide(id, cmd); !errors.Is(err, device.ErrDevNonce) {
			p.Fatalf("a join-request is answered twice: %v", err)
		}
	}
}

// signed puts the MIC on a frame that one of the devices could have made. Which one, and how far its counter is on, comes from how.
func (p *path) signed(body []byte, how byte) []byte {
	id := messages.DeviceID{ApplicationID: "app", DeviceID: fmt.Sprintf("dev-%d", how%3)}
	if len(body) > 0 && body[0]>>5 == 0 { // join-request
		nonce := lorawan.DevNonce(0)
		if len(body) > 18 {
			nonce = lorawan.DevNonce(body[17]) | lorawan.DevNonce(body[18])<<8
		}
		profile := p.profiles[id]
		phy := lorawan.PHYPayload{MHDR: lorawan.MHDR{MType: lorawan.JoinRequest}, MACPayload: &lorawan.JoinRequestPayload{
			JoinEUI: lorawan.EUI64(profile.JoinEUI), DevEUI: lorawan.EUI64(profile.DevEUI), DevNonce: nonce}}
		if err := phy.SetUplinkJoinMIC(lorawan.AES128Key(profile.AppKey)); err != nil {
			p.Fatal(err)
		}
		out, err := phy.MarshalBinary()
		if err != nil {
			p.Fatal(err)
		}
		return out
	}
	ses := p.states[id].Session
	if p.states[id].Pending != nil && how&4 != 0 {
		ses = p.states[id].Pending
	}
	if ses == nil || len(body) < 8 {
		return body
	}
	for i := range 4 {
		body[1+i] = ses.DevAddr[3-i]
	}
	if how&8 != 0 {
		body[6], body[7] = byte(ses.LastFCntUp+1), byte((ses.LastFCntUp+1)>>8)
	}
	fCnt, _ := frame.NextFCnt(ses.LastFCntUp, ses.HasFCntUp, uint16(body[6])|uint16(body[7])<<8)
	if ses.FCnt16 || how&16 != 0 { // as after a reset of the device
		fCnt &= 0xffff
	}
	mic := frame.NewCipher(ses.NwkSKey).MIC(false, ses.DevAddr, fCnt, body)
	return append(body, mic[:]...)
}

// FuzzFramePath takes frames from their bytes to the decision. choices is a row of frames: how it is signed (0xff: not at all), its length, its bytes.
func FuzzFramePath(f *testing.F) {
	uplink := []byte{0x80, 0, 0, 0, 0, 0, 0, 0, 5, 1, 2}
	join := append([]byte{0}, make([]byte, 18)...)
	f.Add(slices.Concat([]byte{8, byte(len(uplink))}, uplink, []byte{9, byte(len(uplink))}, uplink, []byte{0xff, 3, 1, 2, 3}), uint8(3))
	f.Add(slices.Concat([]byte{2, byte(len(join))}, join, []byte{2 + 8 + 4 - 2, byte(len(uplink))}, uplink), uint8(4))
	f.Add(slices.Concat([]byte{0, byte(len(uplink))}, uplink, []byte{0, byte(len(uplink))}, uplink), uint8(3+8+16))
	later := slices.Clone(uplink)
	later[6] = 9
	for _, settings := range []uint8{3, 3 + 8, 3 + 16, 4 + 8 + 16} {
		f.Add(slices.Concat([]byte{0, byte(len(later))}, later, []byte{16 + 2, byte(len(uplink))}, uplink, []byte{8 + 16, byte(len(uplink))}, uplink), settings)
	}
	region, err := device.NewRegion("EU_863_870_TTN")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, choices []byte, settings uint8) {
		p := onePath(t, region, device.Version(settings&7%5), settings&8 != 0, settings&16 != 0)
		for n := 0; len(choices) >= 2 && n < 50; n++ {
			how, size := choices[0], min(int(choices[1]), len(choices)-2)
			phy := slices.Clone(choices[2 : 2+size])
			choices = choices[2+size:]
			if how != 0xff {
				phy = p.signed(phy, how)
			}
			p.receive(phy)
		}
	})
}
