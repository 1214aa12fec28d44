package actors

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/google/go-cmp/cmp"

	"lorikeet/actors/device"
	"lorikeet/cluster"
	"lorikeet/messages"
	v3 "lorikeet/messages/v3"
)

// elsewhere is the router of a node that has lost its devices to another one but did not notice: what is told by its actors goes to the other.
type elsewhere struct {
	*cluster.Local
	other *cluster.Local
	lost  bool
}

func (e *elsewhere) Owns(messages.DeviceID) bool { return !e.lost }
func (e *elsewhere) Tell(id messages.DeviceID, message any) {
	if e.lost {
		e.other.Tell(id, message)
		return
	}
	e.Local.Tell(id, message)
}

// radioSilence is a Sender that must not be asked.
type radioSilence struct {
	mu   sync.Mutex
	sent int
}

func (s *radioSilence) Transmit(*device.Transmit, func(messages.TxError, bool)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sent++
}

// stale starts a second node on the store of r whose actor of the device is awake, and then lets it lose the device to r.
func (r *rig) stale(t *testing.T) (node *elsewhere, radio *radioSilence, made func() int) {
	radio = &radioSilence{}
	node = &elsewhere{other: r.router}
	var mu sync.Mutex
	n := 0
	system := actor.NewActorSystem(actor.WithLoggerFactory(func(*actor.ActorSystem) *slog.Logger { return slog.New(slog.DiscardHandler) }))
	cfg := &DeviceConfig{
		Store: r, Registry: r, Formatters: r, Index: cluster.NewDirectory(), Router: func() Router { return node }, Transmitter: radio, Random: r, Regions: NewRegions(), Activations: r,
		DeduplicationWindow: 200 * time.Millisecond, CommitTimeout: time.Second, Clock: time.Now, Log: slog.New(slog.DiscardHandler), Metrics: NewMetrics(nil),
	}
	node.Local = cluster.StartLocal(cluster.LocalConfig{System: system, Clock: time.Now}, func(id messages.DeviceID) actor.Actor {
		mu.Lock()
		defer mu.Unlock()
		n++
		return NewDevice(cfg, id)
	})
	t.Cleanup(func() {
		if err := node.Stop(context.Background()); err != nil {
			t.Error(err)
		}
		system.Shutdown()
	})
	if _, err := node.Ask(t.Context(), testID, readState{}); err != nil { // awake, with the record of now in memory
		t.Fatal(err)
	}
	return node, radio, func() int { mu.Lock(); defer mu.Unlock(); return n }
}

func TestStaleActivationPublishesNothingAndStops(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		stale, radio, made := r.stale(t)
		if err := r.devices.PushDownlinks(t.Context(), testID, []messages.Downlink{{FPort: 1, FRMPayload: []byte{1}}}); err != nil {
			t.Fatal(err)
		}
		stale.lost = true
		settled := 0
		f := messages.Frame{PHYPayload: phy(7, 2, true), ReceivedAt: time.Now(), Rx: []messages.RxMetadata{{GatewayEUI: messages.EUI64{1}}},
			Settings: messages.TxSettings{DataRate: messages.DataRate{SpreadingFactor: 7, Bandwidth: 125000}, Frequency: 868100000}}
		m := &DeliverFrame{Frame: f}
		m.OnSettled(func() { settled++ })
		stale.Local.Tell(testID, m)
		time.Sleep(time.Second)
		synctest.Wait()
		// The frame went to the owner, which accepted it and sent the answer with the downlink.
		r.wantTypes(messages.EventDownQueued, messages.EventUplink, messages.EventDownSent)
		if radio.sent != 0 {
			t.Errorf("the stale activation sent %d frames", radio.sent)
		}
		if len(r.sent) != 1 || r.sent[0].FCnt != 1 {
			t.Errorf("the owner sent %d frames", len(r.sent))
		}
		if settled != 1 {
			t.Errorf("the frame was settled %d times", settled)
		}
		if stale.Alive() != 0 || made() != 1 {
			t.Errorf("%d stale actors are alive, %d were made", stale.Alive(), made())
		}
	})
}

func TestStaleActivationRefusesCommands(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		stale, _, _ := r.stale(t)
		if err := r.devices.PushDownlinks(t.Context(), testID, []messages.Downlink{{FPort: 1, FRMPayload: []byte{1}}}); err != nil {
			t.Fatal(err)
		}
		stale.lost = true
		push := device.PushDownlinks{Items: []messages.Downlink{{ID: "x", FPort: 2, FRMPayload: []byte{2}}}, Now: time.Now(), IDs: []string{"c"}, Random: "r"}
		if _, err := stale.Ask(t.Context(), testID, push); !errors.Is(err, messages.ErrMoved) {
			t.Errorf("got %v", err)
		}
		r.wantTypes(messages.EventDownQueued)
		if items, err := r.devices.ListDownlinks(t.Context(), testID); err != nil || len(items) != 1 {
			t.Errorf("queue %+v, %v", items, err)
		}
	})
}

// A node that gets no answer sends a request again. By then the downlink may be on air.
func TestRequestThatComesAgainAfterItsDownlinkWasSentIsNotCarriedOutAgain(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		push := device.PushDownlinks{Items: []messages.Downlink{{ID: "x", FPort: 2, FRMPayload: []byte{2}}}, Now: time.Now(), IDs: []string{"c"}, Random: "r"}
		for range 2 {
			if _, err := r.router.Ask(t.Context(), testID, push); err != nil {
				t.Fatal(err)
			}
			r.hear(phy(uint32(len(r.log())), 2, false), 1, 1000, 868100000)
			time.Sleep(time.Second)
			synctest.Wait()
		}
		r.wantTypes(messages.EventDownQueued, messages.EventUplink, messages.EventDownSent, messages.EventUplink)
		if _, err := r.router.Ask(t.Context(), testID, device.PushDownlinks{Replace: true, Now: time.Now(), IDs: []string{"c"}, Random: "r2"}); err != nil {
			t.Fatal(err)
		}
	})
}

// While both nodes think that they own the device, each commit is decided on what the other has stored.
func TestTwoActivationsNeverAcceptAFrameTwice(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		second, _, _ := r.stale(t)
		for n := range uint32(10) {
			for _, router := range []Router{r.router, second.Local} {
				router.Tell(testID, &DeliverFrame{Frame: messages.Frame{PHYPayload: phy(n+1, 2, false), ReceivedAt: time.Now(), Rx: []messages.RxMetadata{{GatewayEUI: messages.EUI64{1}}}}})
			}
			time.Sleep(time.Second)
		}
		synctest.Wait()
		seen := map[uint32]int{}
		for _, up := range r.log() {
			seen[uint32(up.UplinkMessage.FCnt)]++
		}
		for n := range uint32(10) {
			if seen[n+1] != 1 {
				t.Errorf("FCntUp %d was published %d times", n+1, seen[n+1])
			}
		}
	})
}

func TestStoppingDecidesWhatIsBeingCollected(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.hear(phy(1, 2, false), 1, 1000, 868100000)
		synctest.Wait()
		r.wantTypes()
		if err := r.router.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
		r.wantTypes(messages.EventUplink)
	})
}

func TestCodecRoundTrip(t *testing.T) {
	now := time.Unix(1_700_000_000, 123456789)
	rssi := float32(-99.5)
	frame := messages.Frame{
		PHYPayload: []byte{1, 2, 3}, ReceivedAt: now, CorrelationID: "gs:uplink:x",
		Settings: messages.TxSettings{DataRate: messages.DataRate{Modulation: messages.LRFHSS, SpreadingFactor: 7, Bandwidth: 125000, BitRate: 50000, ModulationType: 3, CodingRate: "4/5"},
			Frequency: 868100000, Timestamp: 4_000_000_000, Time: now, EnableCRC: true},
		Rx: []messages.RxMetadata{
			{GatewayID: "gw", GatewayEUI: messages.EUI64{1, 2}, AntennaIndex: 1, Time: now, GPSTime: now, Timestamp: 7, FineTimestamp: 8, HasFineTimestamp: true, EncryptedFineTime: []byte{1},
				EncryptedFineTimeKey: "k", RSSI: -50, ChannelRSSI: -51, SignalRSSI: &rssi, RSSIStandardDeviation: 1.5, SNR: -7.5, FrequencyOffset: -3, HoppingWidth: 2, ChannelIndex: 5,
				Location: &messages.Location{Latitude: 1.5, Longitude: -2.5, Altitude: 3, Accuracy: 4, Source: "SOURCE_GPS"}, ReceivedAt: now, UplinkToken: []byte{9}, Board: 1, RFChain: 2, Node: "n1"},
			{GatewayEUI: messages.EUI64{3}},
		},
	}
	item := messages.Downlink{ID: "01", FPort: 3, FRMPayload: []byte{1}, DecodedPayload: []byte(`{"a":1}`), DecodedWarnings: []string{"w"}, Confirmed: true, Priority: 3,
		ClassBC: []byte(`{"x":1}`), CorrelationIDs: []string{"c"}, MaxAttempts: 2, Attempt: 1, FCnt: 7, SessionKeyID: []byte{4}, Encrypted: true, TimeToLive: time.Minute, ExpiresAt: now.UTC(), AbsoluteTime: now.UTC(),
		Status: messages.DownlinkInFlight}
	up := v3.ApplicationUp{UplinkMessage: &v3.UplinkMessage{FPort: 1, FRMPayload: []byte{5}}}
	c := Codec{}
	for _, m := range []any{
		&DeliverFrame{Frame: frame}, &DeliverFrame{Frame: frame, Join: true}, &DeliverFrame{Frame: messages.Frame{PHYPayload: []byte{1}, Rx: []messages.RxMetadata{{}}}},
		transmission{device.ReportTransmission{SessionSeq: 1, FCnt: 2, Err: messages.TxTooLate, Missed: true, Now: now, IDs: []string{"i"}}},
		device.PushDownlinks{Items: []messages.Downlink{item, {}}, Replace: true, Now: now, IDs: []string{"i"}, Random: "r", MoreItems: 1, MoreBytes: 2},
		device.CancelDownlinks{Items: []string{"a", "b"}, Now: now, IDs: []string{"i"}, Random: "r"},
		device.FailDownlinks{Items: []messages.Downlink{item}, Reason: messages.Invalid("bad", "bad %d", 1), Now: now, IDs: []string{"i"}, Random: "r"},
		device.SetSession{DevAddr: messages.DevAddr{1}, NwkSKey: messages.Key{2}, KeyID: []byte{3}, HasFCntUp: true, LastFCntUp: 4, LastFCntDown: 5, Now: now, IDs: []string{"i"}, Random: "r"},
		device.Restore{From: device.State{Session: &device.Session{DevAddr: messages.DevAddr{1}, NwkSKey: messages.Key{2}, LastFCntUp: 3}, UsedDevNonces: []byte{0, 1}, LastJoinNonce: 4}, FCntDownStep: 5, Now: now.UTC(), Random: "r"},
		device.Reset{}, readQueue{}, readState{}, deleteState{}, forgetState{}, reloadProfile{}, simulate{up}, handOver{messages.DeviceID{ApplicationID: "app2", DeviceID: "dev2"}}, keepOn{}, takeOver{},
	} {
		kind, body, err := c.Encode(m)
		if err != nil {
			t.Errorf("%T: %v", m, err)
			continue
		}
		got, err := c.Decode(kind, body)
		if err != nil {
			t.Errorf("%T: %v", m, err)
			continue
		}
		if d := cmp.Diff(m, got, cmp.AllowUnexported(DeliverFrame{}, transmission{}, simulate{}, readQueue{}, readState{}, deleteState{}, forgetState{}, reloadProfile{}, handOver{}, keepOn{}, takeOver{}), cmp.Comparer(sameKey)); d != "" {
			t.Errorf("%T: %s", m, d)
		}
	}
	for _, m := range []any{closeWindow{1}, forgetProfile{}, "text", nil} {
		if _, _, err := c.Encode(m); err == nil {
			t.Errorf("%T is for another node", m)
		}
	}
	if _, err := c.Decode("from_the_future", nil); messages.CodeOf(err) != messages.CodeUnavailable {
		t.Errorf("unknown kind: %v", err)
	}
	for _, kind := range []string{kindFrame, kindTransmission, kindPush, kindFail, kindCancel, kindSetSession, kindSimulate, kindRestore, kindHandOver} {
		if _, err := c.Decode(kind, []byte("\xff\xff")); messages.CodeOf(err) != messages.CodeInvalid {
			t.Errorf("malformed %s: %v", kind, err)
		}
	}
	for kind, value := range map[string]any{kindQueue: []messages.Downlink{item}, kindState: v3.EndDevice{LoRaWANVersion: "x"}, kindPush: nil,
		kindCancel: map[string]*messages.Error{"a": messages.NotFound("downlink_not_found", "not there")}} {
		body, err := c.EncodeAnswer(kind, value)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := c.DecodeAnswer(kind, body); err != nil || cmp.Diff(value, got) != "" {
			t.Errorf("answer to %s: %v, %s", kind, err, cmp.Diff(value, got))
		}
	}
}

func sameKey(a, b messages.Key) bool { return a == b }

type answered struct {
	result messages.TxError
	missed bool
}

// sender answers as told and notes the radio gateways.
type sender struct {
	answered
	mu    sync.Mutex
	asked []messages.EUI64
}

func (s *sender) Transmit(t *device.Transmit, report func(messages.TxError, bool)) {
	s.mu.Lock()
	for _, c := range t.Candidates {
		s.asked = append(s.asked, c.Rx[0].GatewayEUI)
	}
	s.mu.Unlock()
	go report(s.result, s.missed)
}

func TestAnswersGoThroughTheNodesOfTheRadioGateways(t *testing.T) {
	one, two, three := messages.EUI64{1}, messages.EUI64{2}, messages.EUI64{3}
	for name, c := range map[string]struct {
		local, remote answered
		remoteErr     error
		result        messages.TxError
		missed        bool
		askedLocal    []messages.EUI64
		askedRemote   []messages.EUI64
	}{
		"best node sends":              {askedRemote: []messages.EUI64{one, three}},
		"next node after a refusal":    {remote: answered{result: messages.TxCollisionPacket}, askedRemote: []messages.EUI64{one, three}, askedLocal: []messages.EUI64{two}},
		"next node after no answer":    {remoteErr: errors.New("gone"), askedLocal: []messages.EUI64{two}},
		"all refuse":                   {remote: answered{result: messages.TxCollisionPacket}, local: answered{result: messages.TxFrequency}, result: messages.TxFrequency, askedRemote: []messages.EUI64{one, three}, askedLocal: []messages.EUI64{two}},
		"too late everywhere":          {remote: answered{missed: true}, local: answered{missed: true}, result: messages.TxTooLate, missed: true, askedRemote: []messages.EUI64{one, three}, askedLocal: []messages.EUI64{two}},
		"perhaps sent, then a refusal": {remote: answered{result: messages.TxUnanswered}, local: answered{result: messages.TxFrequency}, result: messages.TxUnanswered, askedRemote: []messages.EUI64{one, three}, askedLocal: []messages.EUI64{two}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				local, far := &sender{answered: c.local}, &sender{answered: c.remote}
				farRelay := NewRelay(RelayConfig{Node: "b", Local: far, Clock: time.Now, Log: slog.New(slog.DiscardHandler)})
				r := NewRelay(RelayConfig{
					Node: "a", Local: local, Clock: time.Now, Log: slog.New(slog.DiscardHandler),
					NodeOf: func(eui messages.EUI64) (string, bool) { return "b", eui == three }, // moved since the uplink
					Ask: func(ctx context.Context, node, kind string, body []byte) ([]byte, error) {
						if node != "b" || kind != KindTransmit {
							t.Errorf("asked %s for %s", node, kind)
						}
						if c.remoteErr != nil {
							return nil, c.remoteErr
						}
						return farRelay.HandleTransmit(ctx, body)
					},
				})
				defer farRelay.Close()
				defer r.Close()
				heard := func(eui messages.EUI64, node string) messages.Frame {
					return messages.Frame{PHYPayload: []byte{1}, ReceivedAt: time.Now(), Rx: []messages.RxMetadata{{GatewayEUI: eui, Node: node, UplinkToken: []byte{7}}}}
				}
				done := make(chan answered, 1)
				r.Transmit(&device.Transmit{PHYPayload: []byte{9}, Windows: []device.Window{{Delay: time.Second}}, Candidates: []messages.Frame{heard(one, "b"), heard(two, "a"), heard(three, "a")}},
					func(result messages.TxError, missed bool) { done <- answered{result, missed} })
				if got := <-done; got != (answered{c.result, c.missed}) {
					t.Errorf("got %+v", got)
				}
				if !slices.Equal(local.asked, c.askedLocal) || !slices.Equal(far.asked, c.askedRemote) {
					t.Errorf("asked here %v, there %v", local.asked, far.asked)
				}
			})
		})
	}
}
