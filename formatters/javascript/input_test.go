package javascript

import (
	"encoding/json"
	"testing"

	"lorikeet/messages"
)

func equipped() messages.DecodeInput {
	in := uplink(1)
	rssi, snr := float32(-113), float32(-7.2)
	in.FCnt, in.RSSI, in.SNR = 1<<31, &rssi, &snr
	in.FormatterDevice = messages.FormatterDevice{
		Device: messages.DeviceID{ApplicationID: "app", DeviceID: "dev"}, DevEUI: messages.EUI64{0x70, 0xb3}, Attributes: map[string]string{"offset": "1.5", "area": "x"},
		VersionIDs: &messages.VersionIDs{BrandID: "acme", BandID: "EU_863_870"},
	}
	return in
}

func TestInputExtras(t *testing.T) {
	t.Parallel()
	const device = `{"ids":{"device_id":"dev","application_ids":{"application_id":"app"},"dev_eui":"70B3000000000000"},"attributes":{"area":"x","offset":"1.5"},` +
		`"version_ids":{"brand_id":"acme","band_id":"EU_863_870"}}`
	for _, c := range []struct{ name, source, want string }{
		{"all", `function decodeUplink(i) { return {data: {f: i.fCnt, g: i.f_cnt, r: i.rssi, s: i.snr, d: i.device, v: i.variables}} }`,
			`{"f":2147483648,"g":2147483648,"r":-113,"s":-7.2,"d":` + device + `,"v":{"area":"x","offset":"1.5"}}`},
		{"destructured", `const decodeUplink = ({bytes, fCnt, device: {attributes: {offset}}}) => ({data: {t: bytes[0] + Number(offset), fCnt}})`, `{"t":2.5,"fCnt":2147483648}`},
		{"can't be enumerated", `function decodeUplink(i) { var k = []; for (var n in i) k.push(n); return {data: {k: k, o: Object.keys(i), s: Object.keys({...i}), r: 'rssi' in i && 'device' in i && 'fCnt' in i}} }`,
			`{"k":["bytes","fPort","recvTime","variables"],"o":["bytes","fPort","recvTime","variables"],"s":["bytes","fPort","recvTime","variables"],"r":true}`},
		{"can be written", `function decodeUplink(i) { i.device = 1; i.fCnt = 2; i.recvTime = 3; delete i.rssi; return {data: {d: i.device, f: i.fCnt, r: i.rssi}} }`, `{"d":1,"f":2,"r":null}`},
		{"variables of ChirpStack", `function Decode(fPort, bytes, variables) { return {o: variables.offset} }`, `{"o":"1.5"}`},
	} {
		d, err := compile(t, c.source).DecodeUplink(t.Context(), equipped())
		if err != nil || string(d.Data) != c.want {
			t.Errorf("%s: got %s, %v\nwant %s", c.name, d.Data, err, c.want)
		}
	}
	d, err := compile(t, `function decodeUplink(i) { return {data: {r: i.rssi, s: typeof i.snr, d: i.device}} }`).DecodeUplink(t.Context(), uplink(1))
	want := `{"r":null,"s":"undefined","d":{"ids":{"device_id":"","application_ids":{"application_id":""}},"attributes":{},"version_ids":{}}}`
	if err != nil || string(d.Data) != want {
		t.Errorf("nothing known: got %s, %v\nwant %s", d.Data, err, want)
	}
}

func TestEncoderInput(t *testing.T) {
	t.Parallel()
	in := messages.EncodeInput{Data: json.RawMessage(`{"a":1}`), FPort: 3, FormatterDevice: equipped().FormatterDevice}
	for _, source := range []string{
		`function encodeDownlink(i) { return {bytes: Object.keys(i).join() + ' ' + i.data.a + i.fPort + i.variables.offset + i.device.ids.device_id} }`,
		`function Encode(fPort, data, variables) { return 'data,fPort,variables ' + data.a + fPort + variables.offset + 'dev' }`,
	} {
		e, err := compile(t, source).EncodeDownlink(t.Context(), in)
		if want := "data,fPort,variables 131.5dev"; err != nil || string(e.Bytes) != want {
			t.Errorf("got %q, %v; want %q", e.Bytes, err, want)
		}
	}
}
