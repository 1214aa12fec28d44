package actors

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	gocmp "github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"lorikeet/actors/device"
	"lorikeet/cluster"
	"lorikeet/messages"
	"lorikeet/messages/frame"
	"lorikeet/messages/keywrap"
	v3 "lorikeet/messages/v3"
	"lorikeet/persistence/memory"
)

var (
	testID  = messages.DeviceID{ApplicationID: "app", DeviceID: "dev"}
	nwkSKey = messages.Key{1}
	appSKey = messages.Key{2}
	addr    = messages.DevAddr{1, 2, 3, 4}
)

// rig is a node with a memory store, one ABP device and a radio side that the test plays.
type rig struct {
	t       *testing.T
	store   *memory.Store
	failing bool              // commits fail
	decoded *messages.Decoded // of every uplink; nil: the number of its bytes
	kek     *keywrap.KEK
	change  func(*v3.EndDevice) // of what the registry says
	succeed int                 // so many commits before they fail
	moved   messages.DeviceID   // the id of the device, if it is not testID any more
	router  *cluster.Local
	devices *Devices
	ingress *Ingress
	metrics *Metrics
	restart func() // after router.Stop: all actors anew

	mu      sync.Mutex
	sent    []*device.Transmit
	results []messages.TxError // answers of the radio gateways, in order; none: sent
	n       int
}

func (r *rig) Commit(ctx context.Context, c messages.Commit) (messages.Revision, error) {
	r.mu.Lock()
	failing := r.failing && r.succeed == 0
	r.succeed = max(r.succeed, 1) - 1
	r.mu.Unlock()
	if failing {
		return 0, messages.Errorf(messages.CodeUnavailable, "disk_full", "disk is full")
	}
	return r.store.Commit(ctx, c)
}

// fail makes commits fail, or succeed again.
func (r *rig) fail(failing bool) { r.failAfterCommits(failing, 0) }

func (r *rig) failAfter(commits int) { r.failAfterCommits(true, commits) }

func (r *rig) failAfterCommits(failing bool, commits int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failing, r.succeed = failing, commits
}

// configure changes what the registry says about the device, and has it told.
func (r *rig) configure(change func(*v3.EndDevice), kek *keywrap.KEK) {
	r.mu.Lock()
	r.change, r.kek = change, kek
	r.mu.Unlock()
	r.devices.RegistryChanged(messages.Change{Kind: messages.KindDevice, ID: testID.UID()})
	synctest.Wait()
}

// settle lets the window of what was heard pass.
func (r *rig) settle() {
	time.Sleep(time.Second)
	synctest.Wait()
}

func (r *rig) LoadSession(ctx context.Context, id messages.DeviceID) ([]byte, messages.Revision, error) {
	return r.store.LoadSession(ctx, id)
}
func (r *rig) DeleteSession(ctx context.Context, id messages.DeviceID) error {
	return r.store.DeleteSession(ctx, id)
}
func (r *rig) ScanSessions(ctx context.Context, fn func(messages.DeviceID, []byte, messages.Revision) error) error {
	return r.store.ScanSessions(ctx, fn)
}

func (r *rig) Device(_ context.Context, id messages.DeviceID) (v3.EndDevice, error) {
	r.mu.Lock()
	known := cmp.Or(r.moved, testID)
	r.mu.Unlock()
	if id != known {
		return v3.EndDevice{}, messages.NotFound("end_device_not_found", "device %s not found", id)
	}
	dev := v3.EndDevice{LoRaWANVersion: "MAC_V1_0_3", FrequencyPlanID: "EU_863_870", Attributes: map[string]string{"floor": "3"},
		Formatters: &v3.Formatters{UpFormatter: messages.FormatterLua, DownFormatter: messages.FormatterLua}}
	dev.IDs.DeviceID, dev.IDs.ApplicationIDs.ApplicationID = id.DeviceID, id.ApplicationID
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.change != nil {
		r.change(&dev)
	}
	return dev, nil
}
func (r *rig) Link(context.Context, string) (v3.Link, error) { return v3.Link{}, nil }
func (r *rig) ActivationSettings(context.Context, string) (v3.ActivationSettings, error) {
	return v3.ActivationSettings{}, nil
}
func (r *rig) WrappingKEK(context.Context, v3.EndDevice) (*keywrap.KEK, error) { return r.kek, nil }
func (r *rig) DeviceByEUI(messages.EUI64, messages.EUI64) (messages.DeviceID, bool) {
	return messages.DeviceID{}, false
}

func (r *rig) DecodeUplink(_ context.Context, _ messages.Formatter, in messages.DecodeInput) (messages.Decoded, error) {
	if in.FPort == 99 {
		return messages.Decoded{}, messages.Invalid("formatter_script", "script says no")
	}
	if r.decoded != nil {
		return *r.decoded, nil
	}
	return messages.Decoded{Data: json.RawMessage(`{"n":` + strconv.Itoa(len(in.Bytes)) + `}`), Warnings: []string{"careful"}}, nil
}
func (r *rig) EncodeDownlink(_ context.Context, _ messages.Formatter, in messages.EncodeInput) (messages.Encoded, error) {
	if string(in.Data) == `{"bad":1}` {
		return messages.Encoded{}, messages.Invalid("formatter_script", "can't encode")
	}
	return messages.Encoded{Bytes: []byte{1, 2}, FPort: 7}, nil
}
func (r *rig) DecodeDownlink(context.Context, messages.Formatter, messages.DecodeInput) (messages.Decoded, error) {
	return messages.Decoded{Data: json.RawMessage(`{"raw":true}`)}, nil
}

func (r *rig) Transmit(t *device.Transmit, report func(messages.TxError, bool)) {
	r.mu.Lock()
	r.sent = append(r.sent, t)
	result := messages.TxOK
	if len(r.results) > 0 {
		result, r.results = r.results[0], r.results[1:]
	}
	r.mu.Unlock()
	go report(result, false)
}

func (r *rig) ULID(time.Time) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.n++
	return "id" + strconv.Itoa(r.n)
}
func (r *rig) Bytes(n int) []byte { return make([]byte, n) }

// inBubble runs test with a rig in a synctest bubble: waiting for a timer takes no time.
func inBubble(t *testing.T, test func(t *testing.T, r *rig)) {
	synctest.Test(t, func(t *testing.T) {
		r := &rig{t: t, store: memory.New(), metrics: NewMetrics(nil)}
		system := actor.NewActorSystem(actor.WithLoggerFactory(func(*actor.ActorSystem) *slog.Logger { return slog.New(slog.DiscardHandler) }))
		directory := cluster.NewDirectory()
		cfg := &DeviceConfig{
			Store: r, Registry: r, Formatters: r, Index: directory, Router: func() Router { return r.router }, Transmitter: r, Random: r, Regions: NewRegions(), Activations: r,
			DeduplicationWindow: 200 * time.Millisecond, CommitTimeout: time.Second, Clock: time.Now, Log: slog.New(slog.DiscardHandler), Metrics: r.metrics,
		}
		r.restart = func() {
			r.router = cluster.StartLocal(cluster.LocalConfig{System: system, Clock: time.Now}, func(id messages.DeviceID) actor.Actor { return NewDevice(cfg, id) })
			r.devices = NewDevices(cfg, r.router)
			r.ingress = NewIngress(IngressConfig{Directory: directory, Registry: r, Router: r.router, Metrics: r.metrics, MaxInFlight: 100, Clock: time.Now, Log: cfg.Log})
		}
		r.restart()
		nwk, app := v3.HexKey(nwkSKey), v3.HexKey(appSKey)
		ses := v3.Session{DevAddr: &addr}
		ses.Keys.FNwkSIntKey, ses.Keys.AppSKey = &v3.KeyEnvelope{Key: &nwk}, &v3.KeyEnvelope{Key: &app}
		if err := r.devices.SetDeviceSession(t.Context(), testID, ses); err != nil {
			t.Fatal(err)
		}
		test(t, r)
		synctest.Wait()
		if n := r.ingress.InFlight(); n != 0 {
			t.Errorf("%d frames are not settled", n)
		}
		if err := r.router.Stop(context.Background()); err != nil {
			t.Error(err)
		}
		system.Shutdown()
		synctest.Wait()
	})
}

// phy is an uplink on a port.
func phy(fCnt uint32, port byte, confirmed bool, payload ...byte) []byte {
	b := []byte{0x40, addr[3], addr[2], addr[1], addr[0], 0, byte(fCnt), byte(fCnt >> 8), port}
	if confirmed {
		b[0] = 0x80
	}
	b = append(b, frame.NewCipher(appSKey).Crypt(false, addr, fCnt, payload)...)
	mic := frame.NewCipher(nwkSKey).MIC(false, addr, fCnt, b)
	return append(b, mic[:]...)
}

// hear hands in one reception by a radio gateway.
func (r *rig) hear(phy []byte, gateway byte, timestamp uint32, frequency uint64) {
	now := time.Now()
	r.ingress.HandleFrame(messages.Frame{
		PHYPayload: phy, ReceivedAt: now, CorrelationID: "gs",
		Settings: messages.TxSettings{DataRate: messages.DataRate{SpreadingFactor: 7, Bandwidth: 125000, CodingRate: "4/5"}, Frequency: frequency, Timestamp: timestamp},
		Rx:       []messages.RxMetadata{{GatewayID: "gw", GatewayEUI: messages.EUI64{gateway}, Timestamp: timestamp, SNR: float32(gateway), RSSI: -50, ReceivedAt: now}},
	})
}

func (r *rig) log() []v3.ApplicationUp {
	r.t.Helper()
	entries, err := r.store.ReadLog(context.Background(), "app", 0, 1000)
	if err != nil {
		r.t.Fatal(err)
	}
	out := make([]v3.ApplicationUp, len(entries))
	for i, e := range entries {
		if err := json.Unmarshal(e.JSON, &out[i]); err != nil {
			r.t.Fatal(err)
		}
	}
	return out
}

func (r *rig) wantTypes(want ...messages.EventType) []v3.ApplicationUp {
	r.t.Helper()
	synctest.Wait()
	log := r.log()
	var got []messages.EventType
	for i := range log {
		got = append(got, log[i].Type())
	}
	if diff := gocmp.Diff(want, got); diff != "" {
		r.t.Fatalf("events: %s", diff)
	}
	return log
}

func TestCopiesWithinTheWindowAreOneEvent(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		f := phy(1, 2, false, 0xab)
		r.hear(f, 1, 1000, 868100000)
		time.Sleep(100 * time.Millisecond)
		r.hear(f, 3, 5000, 868100000)
		r.hear(f, 2, 6000, 868100000)
		r.wantTypes() // the window is open: another radio gateway may follow
		time.Sleep(101 * time.Millisecond)
		up := r.wantTypes(messages.EventUplink)[0]
		m := up.UplinkMessage
		if len(m.RxMetadata) != 3 || m.RxMetadata[0].GatewayIDs.EUI[0] != 3 || m.FPort != 2 || string(m.FRMPayload) != "\xab" {
			t.Fatalf("got %+v", m)
		}
		if string(m.DecodedPayload) != `{"n":1}` || m.DecodedPayloadWarnings[0] != "careful" || m.Attributes["floor"] != "3" || m.ConsumedAirtime == 0 {
			t.Fatalf("got %s, %v, %v", m.DecodedPayload, m.DecodedPayloadWarnings, m.Attributes)
		}
	})
}

func TestSettingsMayChangeWhileCopiesAreCollected(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.hear(phy(1, 2, false, 0xab), 1, 1000, 868100000)
		time.Sleep(100 * time.Millisecond)
		r.devices.RegistryChanged(messages.Change{Kind: messages.KindLink, ID: "app"})
		r.settle()
		r.wantTypes(messages.EventUplink)
		skip := v3.BoolValue(true)
		r.hear(phy(2, 2, false, 0xab), 2, 5000, 868100000)
		time.Sleep(100 * time.Millisecond)
		r.configure(func(dev *v3.EndDevice) { dev.SkipPayloadCryptoOverride = &skip }, nil)
		r.settle()
		if m := r.wantTypes(messages.EventUplink, messages.EventUplink)[1].UplinkMessage; m.DecodedPayload != nil || string(m.FRMPayload) == "\xab" {
			t.Fatalf("%+v", m)
		}
	})
}

func TestWindowClosesWhenAllWhoUsuallyHearHaveReported(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		f := phy(1, 2, false)
		r.hear(f, 1, 1000, 868100000)
		r.hear(f, 2, 1000, 868100000)
		time.Sleep(time.Second)
		f = phy(2, 2, false)
		r.hear(f, 1, 2000, 868100000)
		r.wantTypes(messages.EventUplink)
		r.hear(f, 2, 2000, 868100000)
		r.wantTypes(messages.EventUplink, messages.EventUplink) // at once
		// A third radio gateway whose copy comes late is no second event.
		time.Sleep(300 * time.Millisecond)
		r.hear(f, 9, 2000, 868100000)
		r.hear(f, 2, 2000, 868100000) // the same datagram twice
		r.wantTypes(messages.EventUplink, messages.EventUplink)
		if n := testutil.ToFloat64(r.metrics.Uplinks.WithLabelValues("late_copy")); n != 2 {
			t.Fatalf("%v late copies", n)
		}
	})
}

// A second answer would be on air together with the first.
func TestSlowCopyOfAConfirmedUplinkIsNotAnswered(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		f := phy(1, 2, true)
		r.hear(f, 1, 1000, 868100000)
		time.Sleep(1900 * time.Millisecond)
		r.hear(f, 2, 5000, 868100000) // RX2 opens after 2 s
		r.settle()
		if n := testutil.ToFloat64(r.metrics.Uplinks.WithLabelValues("late_copy")); n != 1 || len(r.sent) != 1 {
			t.Errorf("%v late copies, %d answers", n, len(r.sent))
		}
		r.hear(f, 3, 9000, 868100000) // the device repeats it, and yet another hears it
		r.settle()
		if len(r.sent) != 2 {
			t.Errorf("%d answers", len(r.sent))
		}
		r.wantTypes(messages.EventUplink)
	})
}

// A radio gateway that was cut off hands in at once what it has kept, in any order, while other copies are awaited.
func TestUplinksThatComeTogetherAreTakenInTheirOrder(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		for n, order := range [][]uint32{{1, 2, 3}, {3, 2, 1}, {2, 3, 1}} {
			first := uint32(4 * n)
			r.hear(phy(first, 2, false), 1, 1000*first, 868100000)
			r.hear(phy(first, 2, false), 2, 1000*first, 868100000) // so that both are awaited
			r.settle()
			for _, i := range order {
				r.hear(phy(first+i, 2, false), 1, 1000*(first+i), 868100000)
			}
			if n == 2 { // the newest is complete before the others
				r.hear(phy(first+3, 2, false), 2, 1000*(first+3), 868100000)
			}
			r.settle()
		}
		log := r.log()
		if len(log) != 12 {
			t.Errorf("%d events of 12 uplinks", len(log))
		}
		for i, up := range log {
			if got := int(up.UplinkMessage.FCnt); got != i {
				t.Errorf("event %d has FCnt %d", i, got)
			}
		}
	})
}

func TestConfirmedUplinkIsAcknowledgedAndRepetitionsToo(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		f := phy(1, 2, true)
		r.hear(f, 1, 1000, 868100000)
		time.Sleep(300 * time.Millisecond)
		r.hear(f, 1, 900_000, 868300000) // within the cool-down, but the device has sent anew
		r.wantTypes(messages.EventUplink)
		time.Sleep(5 * time.Second)
		r.hear(f, 1, 6_000_000, 868500000)
		r.wantTypes(messages.EventUplink)
		seen := map[uint32]bool{}
		for _, tx := range r.sent {
			seen[tx.FCnt] = true
		}
		if len(r.sent) != 3 || len(seen) != 3 {
			t.Fatalf("%d answers with %d counters", len(r.sent), len(seen))
		}
	})
}

func TestDecoderThatFailsNeverLosesTheUplink(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.hear(phy(1, 99, false, 1, 2, 3), 1, 1000, 868100000)
		time.Sleep(time.Second)
		m := r.wantTypes(messages.EventUplink)[0].UplinkMessage
		if m.DecodedPayload != nil || m.DecodeError != "script says no" || len(m.FRMPayload) != 3 {
			t.Fatalf("got %+v", m)
		}
	})
}

func TestUplinkThatIsNotDurableIsNotAccepted(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.failing = true
		f := phy(1, 2, true)
		r.hear(f, 1, 1000, 868100000)
		time.Sleep(time.Second)
		r.wantTypes()
		if len(r.sent) != 0 {
			t.Fatal("acknowledged on air what was not durable")
		}
		r.mu.Lock()
		r.failing = false
		r.mu.Unlock()
		r.hear(f, 1, 3_000_000, 868300000) // the device repeats what nobody acknowledged
		time.Sleep(time.Second)
		r.wantTypes(messages.EventUplink)
	})
}

func TestDownlinkGoesFromQueueToSent(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		items := []messages.Downlink{{FPort: 5, FRMPayload: []byte("x"), CorrelationIDs: []string{"mine"}}, {DecodedPayload: json.RawMessage(`{"led":1}`)}}
		if err := r.devices.PushDownlinks(t.Context(), testID, items); err != nil {
			t.Fatal(err)
		}
		queue, err := r.devices.ListDownlinks(t.Context(), testID)
		if err != nil || len(queue) != 2 || string(queue[0].DecodedPayload) != `{"raw":true}` || queue[1].FPort != 7 || string(queue[1].FRMPayload) != "\x01\x02" {
			t.Fatalf("queue %+v, %v", queue, err)
		}
		r.results = []messages.TxError{messages.TxOK, messages.TxCollisionPacket}
		for i := range uint32(2) {
			r.hear(phy(1+i, 2, false), 1, 1000, 868100000)
			time.Sleep(time.Second)
		}
		log := r.wantTypes(messages.EventDownQueued, messages.EventDownQueued, messages.EventUplink, messages.EventDownSent, messages.EventUplink, messages.EventDownFailed)
		if sent := log[3].DownlinkSent; sent.FCnt != 1 || sent.CorrelationIDs[0] != "mine" || log[3].CorrelationIDs[0] != "mine" {
			t.Fatalf("got %+v", log[3])
		}
		if f := log[5].DownlinkFailed; f.Downlink.FPort != 7 || f.Error == nil || f.Error.Name != "transmission" {
			t.Fatalf("got %+v", f)
		}
	})
}

func TestDownlinksThatCantBeAreRefused(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		other := messages.DeviceID{ApplicationID: "app", DeviceID: "other"}
		for name, c := range map[string]struct {
			id   messages.DeviceID
			item messages.Downlink
			want string
		}{
			"unknown device": {other, messages.Downlink{FPort: 1}, "end_device_not_found"},
			"bad port":       {testID, messages.Downlink{FPort: 230, FRMPayload: []byte{1}}, "no_f_port"},
			"encoder":        {testID, messages.Downlink{FPort: 1, DecodedPayload: json.RawMessage(`{"bad":1}`)}, "formatter_script"},
		} {
			var e *messages.Error
			if err := r.devices.PushDownlinks(t.Context(), c.id, []messages.Downlink{c.item}); !errors.As(err, &e) || e.Name != c.want {
				t.Errorf("%s: got %v, want %s", name, err, c.want)
			}
		}
		reason := messages.Invalid("decode_body", "no")
		if err := r.devices.FailDownlinks(t.Context(), testID, []messages.Downlink{{CorrelationIDs: []string{"mine"}}}, reason); err != nil {
			t.Fatal(err)
		}
		log := r.wantTypes(messages.EventDownFailed)
		if log[0].CorrelationIDs[0] != "mine" || log[0].DownlinkFailed.Error.Name != "decode_body" {
			t.Fatalf("got %+v", log[0])
		}
	})
}

func TestStaleActivationCommitsNothingTwice(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.hear(phy(1, 2, false), 1, 1000, 868100000)
		time.Sleep(time.Second)
		// Someone else takes FCntUp 2 behind the actor's back.
		stored, rev, err := r.store.LoadSession(t.Context(), testID)
		if err != nil {
			t.Fatal(err)
		}
		s, err := device.Unmarshal(stored)
		if err != nil {
			t.Fatal(err)
		}
		s.Session.LastFCntUp, s.Session.LastMIC = 2, [4]byte{9}
		b, err := s.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.store.Commit(t.Context(), messages.Commit{Device: testID, Expected: rev, Session: b}); err != nil {
			t.Fatal(err)
		}
		r.hear(phy(2, 2, false), 1, 2000, 868100000)
		time.Sleep(time.Second)
		r.hear(phy(3, 2, false), 1, 3000, 868100000)
		time.Sleep(time.Second)
		log := r.wantTypes(messages.EventUplink, messages.EventUplink)
		if log[1].UplinkMessage.FCnt != 3 {
			t.Fatalf("FCnt %d was published by an activation that had lost the device", log[1].UplinkMessage.FCnt)
		}
	})
}

func TestSimulatedUplinkChangesNothing(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		before, rev, _ := r.store.LoadSession(t.Context(), testID)
		err := r.devices.SimulateUplink(t.Context(), testID, v3.ApplicationUp{UplinkMessage: &v3.UplinkMessage{FPort: 1, FRMPayload: []byte{1, 2}}})
		if err != nil {
			t.Fatal(err)
		}
		log := r.wantTypes(messages.EventUplink)
		if !log[0].Simulated || string(log[0].UplinkMessage.DecodedPayload) != `{"n":2}` || log[0].EndDeviceIDs.DeviceID != "dev" {
			t.Fatalf("got %+v", log[0])
		}
		after, rev2, _ := r.store.LoadSession(t.Context(), testID)
		if diff := gocmp.Diff(before, after); diff != "" || rev != rev2 {
			t.Fatal(diff)
		}
	})
}

func TestDeletedDeviceIsForgotten(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		if err := r.devices.DeleteDevice(t.Context(), testID); err != nil {
			t.Fatal(err)
		}
		r.hear(phy(1, 2, false), 1, 1000, 868100000)
		time.Sleep(time.Second)
		r.wantTypes()
		if n := testutil.ToFloat64(r.metrics.Uplinks.WithLabelValues("unknown_dev_addr")); n != 1 {
			t.Fatalf("%v", n)
		}
	})
}

func TestOnlySessionsWithoutADeviceAreForgotten(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		record, _, err := r.store.LoadSession(t.Context(), testID)
		if err != nil {
			t.Fatal(err)
		}
		orphan := messages.DeviceID{ApplicationID: "app", DeviceID: "gone"}
		if _, err := r.store.Commit(t.Context(), messages.Commit{Device: orphan, Session: record}); err != nil {
			t.Fatal(err)
		}
		for id, kept := range map[messages.DeviceID]bool{testID: true, orphan: false} {
			if err := r.devices.ForgetDevice(t.Context(), id); err != nil {
				t.Fatal(err)
			}
			if b, _, err := r.store.LoadSession(t.Context(), id); err != nil || (b != nil) != kept {
				t.Errorf("%s: %d bytes, %v; kept should be %v", id, len(b), err, kept)
			}
		}
	})
}

func TestFramesPastTheLimitAreDroppedAndCounted(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		for i := range 150 {
			r.hear(phy(1, 2, false), byte(i), 1000, 868100000)
		}
		time.Sleep(time.Second)
		r.wantTypes(messages.EventUplink)
		if n := testutil.ToFloat64(r.metrics.Uplinks.WithLabelValues("overload")); n != 50 {
			t.Fatalf("%v dropped", n)
		}
	})
}

func TestSettingsReachTheProfile(t *testing.T) {
	t.Parallel()
	var dev v3.EndDevice
	in := `{"lorawan_version":"MAC_V1_0_4","frequency_plan_id":"EU_863_870","mac_settings":{"rx1_delay":"RX_DELAY_3","desired_rx1_delay":{"value":4},"rx1_data_rate_offset":2,` +
		`"rx2_data_rate_index":{"value":"DATA_RATE_5"},"rx2_frequency":"869525000","supports_32_bit_f_cnt":false,"resets_f_cnt":{"value":true}}}`
	if err := json.Unmarshal([]byte(in), &dev); err != nil {
		t.Fatal(err)
	}
	p, err := profileOf(dev, NewRegions(), [3]byte{})
	if err != nil {
		t.Fatal(err)
	}
	if p.RX1Delay != 3 || p.DesiredRX1Delay != 4 || p.RX1DROffset != 2 || *p.RX2DR != 5 || p.RX2Frequency != 869525000 || !p.FCnt16 || !p.ResetsFCnt || p.Version != 4 {
		t.Errorf("%+v", p)
	}
	dev.MACSettings.RX1Delay = json.RawMessage(`16`)
	if _, err := profileOf(dev, NewRegions(), [3]byte{}); err == nil {
		t.Error("a delay of 16 s was taken")
	}
}
