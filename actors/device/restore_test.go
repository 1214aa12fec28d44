package device

import (
	"bytes"
	"math"
	"testing"
	"time"

	"lorikeet/messages"
)

// moved is the state of a device that has lived on another server.
func moved() State {
	return State{
		Session: &Session{Seq: 7, KeyID: []byte{1}, DevAddr: addr, NwkSKey: nwkSKey, AppSKey: appSKey, HasFCntUp: true, LastFCntUp: 41, NextFCntDown: 13,
			RX1Delay: 5, RX1DROffset: 1, RX2DR: 3, RX2Frequency: 869525000, StartedAt: epoch, ChannelMaskDone: true},
		HasDevNonce: true, LastDevNonce: 3, UsedDevNonces: []byte{0, 1, 0, 3}, LastJoinNonce: 2, LastSeenAt: epoch, ActivatedAt: epoch,
		Queue: []messages.Downlink{{ID: "a", FPort: 5, FRMPayload: []byte{9}}},
	}
}

func TestAMovedDeviceGoesOnWhereItWas(t *testing.T) {
	t.Parallel()
	b := newBench(t, "EU_863_870")
	b.must(Restore{From: moved(), FCntDownStep: 64, Now: epoch.Add(time.Hour), Random: "r"})
	s := b.s.Session
	if s.LastFCntUp != 41 || s.NextFCntDown != 77 || s.RX1Delay != 5 || s.RX2DR != 3 || s.RX1DROffset != 1 || !s.ChannelMaskDone || !s.StartedAt.Equal(epoch) || s.Seq == 0 {
		t.Errorf("session is %+v", s)
	}
	if b.s.LastJoinNonce != 2 || b.s.LastDevNonce != 3 || !bytes.Equal(b.s.UsedDevNonces, []byte{0, 1, 0, 3}) || len(b.s.Queue) != 1 || !b.s.ActivatedAt.Equal(epoch) {
		t.Errorf("state is %+v", b.s)
	}
	if _, err := b.try(b.uplink(up{fCnt: 41, port: 1, payload: []byte{1}})); err == nil {
		t.Error("an uplink that the other server had was accepted")
	}
	d := b.must(b.uplink(up{fCnt: 42, port: 1, payload: []byte{1}}))
	if d.Transmit == nil || d.Transmit.FCnt != 77 {
		t.Errorf("the next downlink is %+v", d.Transmit)
	}
}

// Whatever is imported once more, and however old it is: no counter and no nonce goes back.
func TestRestoreNeverGoesBack(t *testing.T) {
	t.Parallel()
	b := newBench(t, "EU_863_870")
	b.must(Restore{From: moved(), FCntDownStep: 64, Now: epoch, Random: "r"})
	b.must(b.uplink(up{fCnt: 50, port: 1, payload: []byte{1}}))
	before := b.s
	old := moved()
	old.Session.LastFCntUp, old.LastJoinNonce, old.LastDevNonce, old.UsedDevNonces = 7, 1, 1, []byte{0, 2}
	b.must(Restore{From: old, FCntDownStep: 64, Now: epoch, Random: "r"})
	s := b.s.Session
	if s.LastFCntUp != 50 || s.NextFCntDown != before.Session.NextFCntDown || s.Seq != before.Session.Seq || s.LastMIC != before.Session.LastMIC {
		t.Errorf("session is %+v, was %+v", s, before.Session)
	}
	if b.s.LastJoinNonce != 2 || b.s.LastDevNonce != 3 || !bytes.Equal(b.s.UsedDevNonces, []byte{0, 1, 0, 2, 0, 3}) {
		t.Errorf("nonces are %d, %d, %x", b.s.LastJoinNonce, b.s.LastDevNonce, b.s.UsedDevNonces)
	}
}

// A device that has joined here since is not brought back into its former session.
func TestRestoreKeepsANewerSession(t *testing.T) {
	t.Parallel()
	b := newBench(t, "EU_863_870")
	newer := moved()
	newer.Session.DevAddr, newer.LastJoinNonce = messages.DevAddr{9, 9, 9, 9}, 3
	b.must(Restore{From: newer, Now: epoch, Random: "r"})
	b.must(Restore{From: moved(), Now: epoch, Random: "r"})
	if b.s.Session.DevAddr != newer.Session.DevAddr || b.s.LastJoinNonce != 3 {
		t.Errorf("session is %+v", b.s.Session)
	}
}

func TestRestoreOfASessionWithoutWindows(t *testing.T) {
	t.Parallel()
	b := newBench(t, "EU_863_870")
	b.p.RX1Delay = 2
	from := moved()
	from.Session.RX1Delay, from.Session.RX2Frequency = 0, 0
	b.must(Restore{From: from, Now: epoch, Random: "r"})
	if s := b.s.Session; s.RX1Delay != 2 || s.RX2Frequency != 869525000 || s.NextFCntDown != 13 {
		t.Errorf("session is %+v", s)
	}
}

func TestRestoreAtTheEndOfTheCounter(t *testing.T) {
	t.Parallel()
	b := newBench(t, "EU_863_870")
	from := moved()
	from.Session.NextFCntDown = math.MaxUint32 - 3
	b.must(Restore{From: from, FCntDownStep: 64, Now: epoch, Random: "r"})
	if s := b.s.Session; !s.FCntDownSpent {
		t.Errorf("session is %+v", s)
	}
	from.Session.DevAddr = messages.DevAddr{}
	if _, err := b.try(Restore{From: from, Now: epoch, Random: "r"}); messages.CodeOf(err) != messages.CodeInvalid {
		t.Errorf("without an address: %v", err)
	}
}
