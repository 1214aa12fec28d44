package actors

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"lorikeet/actors/device"
	"lorikeet/messages"
	"lorikeet/messages/frame"
	v3 "lorikeet/messages/v3"
)

// halfFormatters decode, but can't normalize. They keep what they were given.
type halfFormatters struct {
	Formatters
	got chan messages.DecodeInput
}

func (f halfFormatters) DecodeUplink(_ context.Context, _ messages.Formatter, in messages.DecodeInput) (messages.Decoded, error) {
	f.got <- in
	return messages.Decoded{Data: json.RawMessage(`{"a":1}`)}, messages.Invalid("formatter_output", "normalizeUplink: unknown field `x`")
}

func testDevice(f Formatters) *Device {
	eui := messages.EUI64{0x70, 0xb3}
	dev := v3.EndDevice{Attributes: map[string]string{"floor": "3"}, VersionIDs: &v3.VersionIDs{BrandID: "acme", ModelID: "m1"}}
	dev.IDs.DevEUI = &eui
	d := &Device{cfg: &DeviceConfig{Formatters: f, Metrics: NewMetrics(prometheus.NewRegistry()), CommitTimeout: time.Minute}, id: testID}
	d.view = newEventView(dev, &device.Profile{ID: testID, DevEUI: eui}, v3.NetworkIDs{}, nil)
	return d
}

func TestDecodersAreToldOfTheDevice(t *testing.T) {
	t.Parallel()
	d := testDevice(nil)
	rssi, snr := float32(-110), float32(-3)
	at := time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)
	got := d.decodeInput(device.Opened{Data: frame.Data{FPort: 5}, FCnt: 1 << 20, FRMPayload: []byte{1}},
		&messages.Frame{ReceivedAt: at, Rx: []messages.RxMetadata{{RSSI: -90, SNR: -9}, {RSSI: -112, SNR: -3}, {RSSI: -110, SNR: -3}}})
	want := messages.DecodeInput{
		Bytes: []byte{1}, FPort: 5, RecvTime: at, FCnt: 1 << 20, RSSI: &rssi, SNR: &snr,
		FormatterDevice: messages.FormatterDevice{Device: testID, DevEUI: messages.EUI64{0x70, 0xb3}, Attributes: map[string]string{"floor": "3"},
			VersionIDs: &messages.VersionIDs{BrandID: "acme", ModelID: "m1"}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("want -, got +:\n%s", diff)
	}
	simulated := d.simulatedInput(&v3.UplinkMessage{FPort: 5, FCnt: 1 << 20, FRMPayload: []byte{1}, ReceivedAt: &at, RxMetadata: []v3.RxMetadata{{RSSI: -110, SNR: -3}}})
	if diff := cmp.Diff(want, simulated); diff != "" {
		t.Errorf("simulated: want -, got +:\n%s", diff)
	}
	if in := d.decodeInput(device.Opened{}, &messages.Frame{}); in.RSSI != nil || in.SNR != nil {
		t.Errorf("without a reception: got %v, %v", in.RSSI, in.SNR)
	}
}

func TestWhatWasDecodedStandsIfOnlyTheNormalizationFails(t *testing.T) {
	t.Parallel()
	f := halfFormatters{got: make(chan messages.DecodeInput, 2)}
	d := testDevice(f)
	d.decoder = messages.Formatter{Kind: messages.FormatterJavaScript}
	const reason = "normalizeUplink: unknown field `x`"
	if got := <-d.startDecoding(messages.DecodeInput{FPort: 7}); string(got.Data) != `{"a":1}` || got.err != reason {
		t.Errorf("got %s, %q", got.Data, got.err)
	}
	m := v3.UplinkMessage{FRMPayload: []byte{1}, FPort: 7}
	if d.decodeSimulated(&m); string(m.DecodedPayload) != `{"a":1}` || m.DecodeError != reason {
		t.Errorf("simulated: got %s, %q", m.DecodedPayload, m.DecodeError)
	}
	if in := <-f.got; in.FPort != 7 {
		t.Errorf("the decoder was given %+v", in)
	}
}
