package device

import (
	"bytes"
	"fmt"
	"testing"

	"lorikeet/messages"
	"lorikeet/messages/frame"
)

// skipping is a device that has joined, whose application encrypts by itself.
func skipping(t *testing.T) (*bench, *Session) {
	b := otaa(t, "EU_863_870")
	b.p.SkipCrypto = true
	return b, b.joined(1)
}

// encrypted is what the application makes of text for a counter of a session.
func encrypted(ses *Session, fCnt uint32, text string, change ...func(*messages.Downlink)) messages.Downlink {
	d := item(text, change...)
	d.FRMPayload = frame.NewCipher(ses.AppSKey).Crypt(true, ses.DevAddr, fCnt, []byte(text))
	d.FCnt, d.SessionKeyID = fCnt, ses.KeyID
	return d
}

func (b *bench) upOf(ses *Session, fCnt uint32, change ...func(*up)) ReceiveUplink {
	u := up{fCnt: fCnt, port: 1, payload: []byte("secret"), keys: ses.keys(), addr: ses.DevAddr}
	for _, c := range change {
		c(&u)
	}
	return b.uplink(u)
}

func asksForAck(u *up) { u.confirmed = true }

func wantInvalidated(t *testing.T, e Event, lastFCntDown uint32, ids ...string) {
	t.Helper()
	var got []string
	for _, item := range e.Invalidated {
		got = append(got, item.ID)
	}
	if e.Type != messages.EventDownInvalidated || fmt.Sprint(got) != fmt.Sprint(ids) || e.LastFCntDown != lastFCntDown {
		t.Fatalf("got %s of %v, last f_cnt %d; want %v, %d", e.Type, got, e.LastFCntDown, ids, lastFCntDown)
	}
}

func TestSkippedCryptoLeavesThePayloadAsItCame(t *testing.T) {
	b, ses := skipping(t)
	cmd := b.upOf(ses, 1)
	e := b.must(cmd).Events[0]
	sealed := frame.NewCipher(ses.AppSKey).Crypt(false, ses.DevAddr, 1, []byte("secret"))
	if !bytes.Equal(e.Uplink.FRMPayload, sealed) || e.AppSKey != ses.AppSKey || e.LastFCntDown != 0 {
		t.Fatalf("payload %x, key %v, last %d", e.Uplink.FRMPayload, e.AppSKey == ses.AppSKey, e.LastFCntDown)
	}
	b.p.SkipCrypto = false
	if e := b.must(b.upOf(ses, 2)).Events[0]; string(e.Uplink.FRMPayload) != "secret" || !e.AppSKey.IsZero() {
		t.Fatalf("payload %q, key %v", e.Uplink.FRMPayload, !e.AppSKey.IsZero())
	}
}

func TestEncryptedDownlinkIsSentAsGivenUnderItsCounter(t *testing.T) {
	b, ses := skipping(t)
	b.push(encrypted(ses, 0, "zero"), encrypted(ses, 5, "five", confirmed))
	if got := b.s.Items(); got[1].FCnt != 5 || !bytes.Equal(got[1].SessionKeyID, ses.KeyID) {
		t.Fatalf("%+v", got[1])
	}
	d := b.must(b.upOf(ses, 1))
	if got := b.read(d.Transmit, 0, ses.NwkSKey, ses.AppSKey); got.payload != "zero" || !got.pending {
		t.Fatalf("%+v", got)
	}
	if d.Events[0].LastFCntDown != 5 {
		t.Fatalf("last_a_f_cnt_down %d: the queued one counts", d.Events[0].LastFCntDown)
	}
	d = b.must(b.upOf(ses, 2, asksForAck)) // our acknowledgement goes with it
	if got := b.read(d.Transmit, 5, ses.NwkSKey, ses.AppSKey); got.payload != "five" || !got.ack || !got.confirmed {
		t.Fatalf("%+v", got)
	}
	// Another attempt would need another counter: there is one.
	d = b.must(b.upOf(ses, 3))
	wantTypes(t, d, messages.EventUplink, messages.EventDownSent, messages.EventDownNack, messages.EventDownFailed)
	if b.s.Session.NextFCntDown != 6 {
		t.Fatalf("next FCntDown %d", b.s.Session.NextFCntDown)
	}
}

func TestEncryptedDownlinkMustFitSessionAndCounter(t *testing.T) {
	b, ses := skipping(t)
	b.must(b.upOf(ses, 1, asksForAck)) // takes FCntDown 0
	b.push(encrypted(ses, 3, "three"))
	for name, d := range map[string]messages.Downlink{
		"unknown_session": item("plain"),
		"f_cnt_too_low":   encrypted(ses, 3, "again"),
		"f_cnt_too_high":  encrypted(ses, 4+maxFCntGap, "far"),
	} {
		_, err := b.try(PushDownlinks{Items: []messages.Downlink{d}, Now: epoch})
		wantError(t, err, name)
	}
	_, err := b.try(PushDownlinks{Replace: true, Items: []messages.Downlink{encrypted(ses, 0, "spent")}, Now: epoch})
	wantError(t, err, "f_cnt_too_low")
	b.must(PushDownlinks{Replace: true, Items: []messages.Downlink{encrypted(ses, 1, "one")}, Now: epoch}) // what was replaced gives its counter back
}

func TestOwnDownlinkThatTakesTheCounterVoidsWhatWasEncrypted(t *testing.T) {
	b, ses := skipping(t)
	b.must(b.upOf(ses, 1, asksForAck)) // FCntDown 0
	b.push(encrypted(ses, 1, "one"), encrypted(ses, 2, "two"))
	d := b.must(b.upOf(ses, 1, asksForAck)) // the device repeats it: acknowledged with FCntDown 1, which "one" was encrypted for
	wantTypes(t, d, messages.EventDownInvalidated)
	wantInvalidated(t, d.Events[0], 1, "one", "two")
	wantQueue(t, b)

	b.push(encrypted(ses, 2, "one"), encrypted(ses, 9, "two"))
	d = b.must(b.upOf(ses, 2))
	wantTypes(t, d, messages.EventUplink)
	d = b.must(ReportTransmission{SessionSeq: ses.Seq, FCnt: 2, Missed: true, Now: epoch}) // nothing was sent, but 2 is spent
	wantTypes(t, d, messages.EventDownInvalidated)
	wantInvalidated(t, d.Events[0], 2, "one", "two")
}

func TestJoinVoidsWhatWasEncrypted(t *testing.T) {
	b, ses := skipping(t)
	b.push(encrypted(ses, 0, "old"))
	d := b.must(b.joinRequest(2, 868100000, sf7))
	wantTypes(t, d, messages.EventJoin)
	if e := d.Events[0]; len(e.Invalidated) != 1 || e.Invalidated[0].ID != "old" || e.AppSKey != b.s.Pending.AppSKey || len(b.s.Queue) != 0 {
		t.Fatalf("%+v", e)
	}
	next := b.s.Pending
	// Both sessions are open until the device uses one.
	b.push(encrypted(next, 0, "new"), encrypted(ses, 0, "old again"))
	d = b.must(b.upOf(next, 0))
	wantTypes(t, d, messages.EventUplink, messages.EventDownInvalidated)
	wantInvalidated(t, d.Events[1], 0, "old again")
	if got := b.read(d.Transmit, 0, next.NwkSKey, next.AppSKey); got.payload != "new" {
		t.Fatalf("%+v", got)
	}
}

func TestVoidItemsAreListedInEventsOfBoundedSize(t *testing.T) {
	b, ses := skipping(t)
	for i := range uint32(6) {
		b.push(encrypted(ses, i, fmt.Sprint(i), func(d *messages.Downlink) { d.DecodedPayload = make([]byte, 90<<10) }))
	}
	d := b.must(b.joinRequest(2, 868100000, sf7))
	wantTypes(t, d, messages.EventJoin, messages.EventDownInvalidated, messages.EventDownInvalidated)
	n := 0
	for _, e := range d.Events {
		n += len(e.Invalidated)
	}
	if n != 6 || d.Events[1].ID == d.Events[2].ID {
		t.Fatalf("%d listed", n)
	}
}

func TestNewSessionOfAnABPDeviceVoidsWhatWasEncrypted(t *testing.T) {
	b := abp(t)
	b.p.SkipCrypto = true
	ses := b.s.Session
	b.push(encrypted(ses, 1, "one"), encrypted(ses, 2, "two"))
	d := b.must(SetSession{DevAddr: addr, LastFCntDown: 1, Now: epoch}) // the same session, further on
	wantTypes(t, d, messages.EventDownInvalidated)
	b.push(encrypted(ses, 2, "two"))
	d = b.must(SetSession{DevAddr: addr, NwkSKey: messages.Key{9}, AppSKey: messages.Key{8}, Now: epoch})
	wantTypes(t, d, messages.EventDownInvalidated)
	wantInvalidated(t, d.Events[0], 0, "two")
}

// A device that moves here begins with counters that its old server can't have used, so what was encrypted for earlier ones is void.
func TestMoveOfADeviceVoidsWhatWasEncryptedForSpentCounters(t *testing.T) {
	b, ses := skipping(t)
	moved := *ses
	from := State{Session: &moved, Queue: []messages.Downlink{encrypted(ses, 3, "spent"), encrypted(ses, 200, "later")}}
	b.s = State{}
	d := b.must(Restore{From: from, FCntDownStep: 100, Now: epoch, Random: "r"})
	wantTypes(t, d, messages.EventDownInvalidated)
	wantInvalidated(t, d.Events[0], 99, "spent", "later")
	b.s = State{}
	d = b.must(Restore{From: from, FCntDownStep: 1, Now: epoch, Random: "r"})
	wantTypes(t, d)
	if got := b.s.Items(); len(got) != 2 || !got[1].Encrypted || got[1].FCnt != 200 {
		t.Fatalf("%+v", got)
	}
}

func TestLocationOfThePayloadIsKeptForLaterUplinks(t *testing.T) {
	b := abp(t)
	cmd := b.uplink(up{fCnt: 1, port: 1})
	cmd.Location = &messages.Location{Latitude: 52.1, Longitude: 4.2, Source: "SOURCE_GPS"}
	d := b.must(cmd)
	wantTypes(t, d, messages.EventUplink, messages.EventLocationSolved)
	if d.Events[0].PayloadLocation != nil || d.Events[1].ID != d.Events[0].ID+":location" {
		t.Fatalf("%+v", d.Events)
	}
	d = b.must(b.uplink(up{fCnt: 2, port: 1}))
	wantTypes(t, d, messages.EventUplink)
	if l := d.Events[0].PayloadLocation; l == nil || l.Latitude != 52.1 {
		t.Fatalf("%+v", l)
	}
}
