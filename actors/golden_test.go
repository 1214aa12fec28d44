package actors

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/brocaar/lorawan"
	"github.com/google/go-cmp/cmp"

	"lorikeet/actors/device"
	"lorikeet/messages"
	"lorikeet/messages/frame"
	"lorikeet/messages/keywrap"
	v3 "lorikeet/messages/v3"
	"lorikeet/messages/v3/pb"
)

var update = flag.Bool("update", false, "write the golden files of events anew")

// goldenDevice is a device that has everything, whose core and encoder are driven with a fixed clock and fixed ids.
type goldenDevice struct {
	t       *testing.T
	state   device.State
	profile *device.Profile
	view    *eventView
	now     time.Time
	events  []messages.Event
}

var goldenAppKey = messages.Key{0x0a}

func newGoldenDevice(t *testing.T, change ...func(*v3.EndDevice)) *goldenDevice {
	t.Helper()
	devEUI, joinEUI := messages.EUI64{0x00, 0x04, 0xa3, 0x0b, 0x00, 0x1c, 0x05, 0x30}, messages.EUI64{0x80, 0, 0, 0, 0, 0, 0, 0x0c}
	appKey := v3.HexKey(goldenAppKey)
	dev := v3.EndDevice{
		IDs:            v3.EndDeviceIDs{DeviceID: "dev1", ApplicationIDs: v3.ApplicationIDs{ApplicationID: "app1"}, DevEUI: &devEUI, JoinEUI: &joinEUI},
		LoRaWANVersion: "MAC_V1_0_3", FrequencyPlanID: "EU_863_870_TTN", SupportsJoin: true, RootKeys: &v3.RootKeys{AppKey: &v3.KeyEnvelope{Key: &appKey}},
		Attributes: map[string]string{"floor": "3"},
		Locations:  map[string]v3.Location{"user": {Latitude: 52.3, Longitude: 4.8, Altitude: 20, Accuracy: 5, Source: "SOURCE_REGISTRY"}},
		VersionIDs: &v3.VersionIDs{BrandID: "acme", ModelID: "thermo", HardwareVersion: "1.0", FirmwareVersion: "1.1", BandID: "EU_863_870"},
	}
	for _, c := range change {
		c(&dev)
	}
	profile, err := profileOf(dev, NewRegions(), [3]byte{0, 0, 0x13})
	if err != nil {
		t.Fatal(err)
	}
	profile.SkipCrypto = skipsPayloadCrypto(dev, v3.Link{})
	kek, err := keywrap.Parse("as/example.com", "000102030405060708090A0B0C0D0E0F")
	if err != nil {
		t.Fatal(err)
	}
	network := v3.NetworkIDs{NSID: "EC656E0000000181", TenantID: "ttn", ClusterID: "eu1", ClusterAddress: "eu1.example.com", TenantAddress: "ttn.eu1.example.com"}
	return &goldenDevice{t: t, profile: profile, view: newEventView(dev, profile, network, &kek), now: time.Date(2024, 10, 24, 10, 0, 0, 123456789, time.UTC)}
}

// take decides, adopts and encodes.
func (g *goldenDevice) take(cmd device.Command) device.Decision {
	g.t.Helper()
	d, err := device.Decide(g.state, g.profile, cmd)
	if err != nil {
		g.t.Fatalf("%T: %v", cmd, err)
	}
	g.state = d.Next
	for _, e := range d.Events {
		events, err := g.view.encode(e, g.now)
		if err != nil {
			g.t.Fatal(err)
		}
		g.events = append(g.events, events...)
	}
	return d
}

func (g *goldenDevice) join(nonce byte) {
	g.t.Helper()
	phy := lorawan.PHYPayload{MHDR: lorawan.MHDR{MType: lorawan.JoinRequest}, MACPayload: &lorawan.JoinRequestPayload{
		JoinEUI: lorawan.EUI64(g.profile.JoinEUI), DevEUI: lorawan.EUI64(g.profile.DevEUI), DevNonce: lorawan.DevNonce(nonce)}}
	if err := phy.SetUplinkJoinMIC(lorawan.AES128Key(goldenAppKey)); err != nil {
		g.t.Fatal(err)
	}
	b, err := phy.MarshalBinary()
	if err != nil {
		g.t.Fatal(err)
	}
	g.take(device.ReceiveJoin{Copies: []messages.Frame{g.frame(b)}, DevAddr: messages.DevAddr{0x26, 0x01, 0x1b, nonce}, SessionKeyID: bytes.Repeat([]byte{nonce}, 16),
		Now: g.now, IDs: []string{"as:up:01JAYQ0000000000000000JOIN"}, Random: "incarnation"})
}

func (g *goldenDevice) frame(phy []byte) messages.Frame {
	signal := float32(-36)
	return messages.Frame{
		PHYPayload: phy, ReceivedAt: g.now.Add(-100 * time.Millisecond), CorrelationID: "gs:uplink:01JAYQ000000000000000000GS",
		Settings: messages.TxSettings{DataRate: messages.DataRate{SpreadingFactor: 7, Bandwidth: 125000, CodingRate: "4/5"}, Frequency: 868100000,
			Timestamp: 2463457000, Time: g.now.Add(-time.Second), EnableCRC: true},
		Rx: []messages.RxMetadata{{
			GatewayID: "gtw1", GatewayEUI: messages.EUI64{0x9c, 0x5c, 0x8e, 0, 0, 0x1a, 0x05, 0xc4}, AntennaIndex: 1, Time: g.now.Add(-time.Second), GPSTime: g.now.Add(-time.Second),
			Timestamp: 2463457000, FineTimestamp: 112233, HasFineTimestamp: true, EncryptedFineTime: []byte{1, 2, 3}, EncryptedFineTimeKey: "4", RSSI: -35, ChannelRSSI: -34,
			SignalRSSI: &signal, RSSIStandardDeviation: 1.5, SNR: 9.25, FrequencyOffset: -1234, HoppingWidth: 3, ChannelIndex: 2, UplinkToken: []byte("token"), ReceivedAt: g.now.Add(-110 * time.Millisecond),
			Location: &messages.Location{Latitude: 52.4, Longitude: 4.9, Altitude: 30, Accuracy: 2, Source: "SOURCE_REGISTRY"},
		}},
	}
}

// uplink makes an uplink of the newest session; mtype 0x40 is unconfirmed, 0x80 confirmed, fctrl 0x20 acknowledges.
func (g *goldenDevice) uplink(mtype, fctrl byte, fCnt uint32, fOpts []byte, port byte, payload string) device.ReceiveUplink {
	ses := g.state.Pending
	if ses == nil {
		ses = g.state.Session
	}
	b := []byte{mtype, ses.DevAddr[3], ses.DevAddr[2], ses.DevAddr[1], ses.DevAddr[0], fctrl | byte(len(fOpts)), byte(fCnt), byte(fCnt >> 8)}
	b = append(append(b, fOpts...), port)
	b = append(b, frame.NewCipher(ses.AppSKey).Crypt(false, ses.DevAddr, fCnt, []byte(payload))...)
	mic := frame.NewCipher(ses.NwkSKey).MIC(false, ses.DevAddr, fCnt, b)
	return device.ReceiveUplink{Copies: []messages.Frame{g.frame(append(b, mic[:]...))}, Now: g.now,
		IDs: []string{"ns:uplink:01JAYQ000000000000000000NS", "as:up:01JAYQ00000000000000000UP"}, Random: "incarnation"}
}

// last gives the JSON of the newest event of a type.
func (g *goldenDevice) last(t messages.EventType) []byte {
	g.t.Helper()
	for _, e := range slices.Backward(g.events) {
		if e.Type == t {
			return e.JSON
		}
	}
	g.t.Fatalf("no %s among %d events", t, len(g.events))
	return nil
}

// decodedUplink is an uplink whose codec told all that a codec can tell.
func (g *goldenDevice) decodedUplink(fCnt uint32) device.ReceiveUplink {
	cmd := g.uplink(0x80, 0, fCnt, []byte{0x06, 200, 10}, 2, "\x01\x67\x00\xe6") // with a DevStatusAns
	cmd.Decoded = messages.Decoded{
		Data: json.RawMessage(`{"temperature_1":23,"gps_2":{"latitude":52.25,"longitude":4.75,"altitude":12,"accuracy":4}}`), Warnings: []string{"battery is low"},
		Normalized: []json.RawMessage{json.RawMessage(`{"air":{"temperature":23}}`)}, NormalizedWarnings: []string{"measurement 1: humidity is out of range"},
	}
	cmd.Location = payloadLocation(cmd.Decoded.Data)
	return cmd
}

// goldenEvents makes an event of each type, by file name.
func goldenEvents(t *testing.T) map[string][]byte {
	out := map[string][]byte{}
	g := newGoldenDevice(t)
	g.join(1)
	out["join_accept"] = g.last(messages.EventJoin)
	g.take(g.decodedUplink(0))
	out["location_solved"] = g.last(messages.EventLocationSolved)
	g.take(g.decodedUplink(3))
	out["uplink_message"], out["uplink_normalized"] = g.last(messages.EventUplink), g.last(messages.EventUplinkNormalized)
	failed := g.uplink(0x40, 0, 4, nil, 2, "\xff")
	failed.Err = "decodeUplink: unknown type 255"
	g.take(failed)
	out["uplink_message_decode_error"] = g.last(messages.EventUplink)
	fsk := g.uplink(0x40, 0, 5, nil, 2, "\x01")
	fsk.Copies[0].Settings.DataRate = messages.DataRate{Modulation: messages.FSK, BitRate: 50000}
	g.take(fsk)
	out["uplink_message_fsk"] = g.last(messages.EventUplink)
	lrfhss := g.uplink(0x40, 0, 6, nil, 2, "\x01")
	lrfhss.Copies[0].Settings.DataRate = messages.DataRate{Modulation: messages.LRFHSS, ModulationType: 1, Bandwidth: 137000, CodingRate: "1/3"}
	g.take(lrfhss)
	out["uplink_message_lrfhss"] = g.last(messages.EventUplink)
	goldenDownlinks(g, out)
	goldenSkippedCrypto(t, out)
	for name, b := range goldenSimulated(g) {
		out[name] = b
	}
	return out
}

// goldenDownlinks sends a confirmed downlink that is acknowledged at its second attempt, and cancels another one.
func goldenDownlinks(g *goldenDevice, out map[string][]byte) {
	ids := []string{"as:downlink:01JAYQ0000000000000000DOWN"}
	item := messages.Downlink{ID: "01JAYQ0000000000000000ITEM", FPort: 15, FRMPayload: []byte{0xbe, 0xef}, DecodedPayload: json.RawMessage(`{"led":true}`), DecodedWarnings: []string{"led is old"},
		Confirmed: true, Priority: 3, CorrelationIDs: []string{"my-id-1"}, MaxAttempts: 2, ExpiresAt: g.now.Add(time.Hour)}
	other := item
	other.ID, other.ClassBC = "01JAYQ0000000000000000ITM2", json.RawMessage(`{"gateways":[{"gateway_ids":{"gateway_id":"gtw1"}}],"absolute_time":"2024-10-24T11:00:00Z"}`)
	g.take(device.PushDownlinks{Items: []messages.Downlink{item, other}, Now: g.now, IDs: ids})
	out["downlink_queued"] = g.last(messages.EventDownQueued)
	d := g.take(g.uplink(0x40, 0, 7, nil, 2, "\x01"))
	g.take(device.ReportTransmission{SessionSeq: d.Transmit.SessionSeq, FCnt: d.Transmit.FCnt, Now: g.now, IDs: []string{"as:up:01JAYQ000000000000000000TX"}})
	out["downlink_sent"] = g.last(messages.EventDownSent)
	g.take(g.uplink(0x40, 0, 8, nil, 2, "\x01"))
	out["downlink_nack"] = g.last(messages.EventDownNack)
	g.take(g.uplink(0x40, 0x20, 9, nil, 2, "\x01"))
	out["downlink_ack"] = g.last(messages.EventDownAck)
	g.take(device.CancelDownlinks{Items: []string{other.ID}, Now: g.now, IDs: ids})
	out["downlink_failed"] = g.last(messages.EventDownFailed)
}

// goldenSkippedCrypto is a device whose application encrypts by itself.
func goldenSkippedCrypto(t *testing.T, out map[string][]byte) {
	g := newGoldenDevice(t, func(dev *v3.EndDevice) {
		skip := v3.BoolValue(true)
		dev.SkipPayloadCryptoOverride = &skip
	})
	g.join(1)
	g.take(g.decodedUplink(0))
	push := func(id string, fCnt uint32) {
		g.take(device.PushDownlinks{Items: []messages.Downlink{{ID: id, FPort: 3, FRMPayload: []byte{1, 2}, FCnt: fCnt, SessionKeyID: g.state.Session.KeyID, CorrelationIDs: []string{"my-id-2"}}}, Now: g.now})
	}
	push("01JAYQ0000000000000000ITM3", 1)
	g.take(g.uplink(0x80, 0, 0, []byte{0x06, 200, 10}, 2, "\x01\x67\x00\xe6")) // a repetition is acknowledged with the counter of the item
	out["downlink_queue_invalidated"] = g.last(messages.EventDownInvalidated)
	push("01JAYQ0000000000000000ITM4", 2)
	g.take(g.uplink(0x40, 0, 1, nil, 2, "\x01"))
	out["uplink_message_skipped_crypto"] = g.last(messages.EventUplink)
	push("01JAYQ0000000000000000ITM5", 3)
	g.join(2)
	out["join_accept_skipped_crypto"] = g.last(messages.EventJoin)
}

// goldenSimulated are messages that only a simulation makes.
func goldenSimulated(g *goldenDevice) map[string][]byte {
	g.t.Helper()
	out := map[string][]byte{}
	for name, body := range map[string]string{
		"service_data":         `{"service_data":{"service":"my-service","data":{"answer":42}}}`,
		"simulated_attributes": `{"location_solved":{"service":"my-service","location":{"latitude":1,"longitude":2},"attributes":{"solver":"best"}}}`,
	} {
		var up v3.ApplicationUp
		if err := json.Unmarshal([]byte(body), &up); err != nil {
			g.t.Fatal(err)
		}
		ev, err := g.view.event(g.view.simulated(up, g.state.Session, g.now, "as:up:01JAYQ00000000000000000SIM"), "id", messages.DevAddr{}, g.now)
		if err != nil {
			g.t.Fatal(err)
		}
		out[name] = ev.JSON
	}
	return out
}

// TestEventsAreWrittenAsInTheGoldenFiles pins the bytes that applications get. After an intended change: go test ./actors -run Golden -update, and
// read the difference.
func TestEventsAreWrittenAsInTheGoldenFiles(t *testing.T) {
	made := goldenEvents(t)
	for name, b := range made {
		var pretty bytes.Buffer
		if err := json.Indent(&pretty, b, "", "  "); err != nil {
			t.Fatal(err)
		}
		pretty.WriteByte('\n')
		if _, err := pb.FromJSON(b); err != nil {
			t.Errorf("%s: no protobuf form: %v", name, err)
		}
		path := filepath.Join("testdata", "events", name+".json")
		if *update {
			if err := os.WriteFile(path, pretty.Bytes(), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), pretty.String()); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	for _, typ := range messages.EventTypes {
		if made[string(typ)] == nil {
			t.Errorf("there is no golden file of %s", typ)
		}
	}
	files, err := filepath.Glob(filepath.Join("testdata", "events", "*.json"))
	if err != nil || len(files) != len(made) {
		t.Errorf("%d files for %d events: %v", len(files), len(made), err)
	}
}

// notInEvents are members that no event of ours has, and why.
var notInEvents = map[string]string{
	"uplink_message.rx_metadata.packet_broker":            "uplinks do not come through Packet Broker; kept in simulated messages",
	"uplink_message.rx_metadata.relay":                    "relays (TS011) are not supported; kept in simulated messages",
	"uplink_message.rx_metadata.downlink_path_constraint": "every radio gateway may be answered through; kept in simulated messages",
	"uplink_message.rx_metadata.advanced":                 "no protocol of radio gateways tells it; kept in simulated messages",
	"uplink_message.rx_metadata.frequency_drift":          "no protocol of radio gateways tells it; kept in simulated messages",
	"uplink_message.settings.concentrator_timestamp":      "Semtech UDP tells 32 bits; kept in simulated messages",
	"uplink_message.settings.downlink":                    "of downlinks; kept in simulated messages",
	"uplink_message.app_s_key.key":                        "an AppSKey is never in clear in an event",
	"join_accept.app_s_key.key":                           "likewise",
	"join_accept.pending_session":                         "rejoin-requests are not supported; kept in simulated messages",
	"downlink_failed.error.attributes":                    "the message format of our errors has its values in it",
	"downlink_failed.error.correlation_id":                "of errors of requests only",
	"downlink_failed.error.cause":                         "only of errors with a named cause",
}

// shared are the parts of a message that are one Go type in several places: they are looked at once.
var shared = map[string]string{
	"uplink_normalized.rx_metadata": "uplink_message.rx_metadata", "uplink_normalized.settings": "uplink_message.settings",
	"join_accept.invalidated_downlinks": "downlink", "downlink_ack": "downlink", "downlink_nack": "downlink", "downlink_sent": "downlink", "downlink_queued": "downlink",
	"downlink_failed.downlink": "downlink", "downlink_queue_invalidated.downlinks": "downlink",
}

// notInDownlinks are members of a downlink that are not in events.
var notInDownlinks = map[string]string{"time_to_live": "input; events have expires_at", "status": "in lists only"}

// TestEveryMemberIsInAGoldenFile: a member that is added to the shapes must be made by something, or have a reason.
func TestEveryMemberIsInAGoldenFile(t *testing.T) {
	seen := map[string]bool{}
	for _, b := range goldenEvents(t) {
		var v map[string]any
		if err := json.Unmarshal(b, &v); err != nil {
			t.Fatal(err)
		}
		notePaths(seen, "", v)
	}
	for path := range membersUnder("", reflect.TypeFor[v3.ApplicationUp]()) {
		name := strings.TrimPrefix(path, "downlink.")
		switch {
		case seen[path] == (notInEvents[path] == "" && (name == path || notInDownlinks[name] == "")):
		case seen[path]:
			t.Errorf("%s is in a golden file, so it needs no reason", path)
		default:
			t.Errorf("%s is in no golden file and has no reason", path)
		}
	}
}

func notePaths(seen map[string]bool, prefix string, v any) {
	if to, ok := shared[prefix]; ok {
		notePaths(seen, to, v)
		return
	}
	seen[prefix] = true
	switch v := v.(type) {
	case map[string]any:
		for name, inner := range v {
			notePaths(seen, strings.TrimPrefix(prefix+"."+name, "."), inner)
		}
	case []any:
		for _, inner := range v {
			notePaths(seen, prefix, inner)
		}
	}
}

// membersUnder lists the paths of all members with JSON names.
func membersUnder(prefix string, t reflect.Type) map[string]bool {
	out := map[string]bool{}
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Struct {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct || t == reflect.TypeFor[time.Time]() {
		return out
	}
	for f := range t.Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		path := strings.TrimPrefix(prefix+"."+name, ".")
		if to, ok := shared[path]; ok {
			out[to] = true
			path = to
		} else {
			out[path] = true
		}
		if path == "downlink_failed.error.cause" {
			continue // as its parent
		}
		for inner := range membersUnder(path, f.Type) {
			out[inner] = true
		}
	}
	return out
}
