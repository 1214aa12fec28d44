package semtechudp

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"lorikeet/messages"
)

// FuzzDatagram runs whole datagrams through the server: whatever comes in, what goes out is an acknowledgement of it or nothing,
// frames are what the sink may expect, and nothing stays in flight.
func FuzzDatagram(f *testing.F) {
	for _, version := range []byte{1, 2, 3} {
		for kind := range byte(7) {
			f.Add(packet(version, 0x1234, kind, gateway, ""), true)
		}
		f.Add(packet(version, 1, pushData, gateway, rxpks(rxpkJSON(dataUp), rxpkJSON(joinRequest))), true)
		f.Add(packet(version, 1, pushData, gateway, `{"stat":{"time":"2014-01-12 08:59:28 GMT","lati":46.24,"long":3.25,"alti":145,"rxnb":2,"temp":1e9}}`), false)
		f.Add(packet(version, 1, txAck, gateway, `{"txpk_ack":{"error":"TOO_LATE"}}`), true)
	}
	f.Fuzz(func(t *testing.T, datagram []byte, connected bool) {
		if len(datagram) > 1<<16 {
			return
		}
		b := newBench(t, func(c *Config) { c.Workers, c.MaxInFlight, c.Sink = 1, 4, checking{t} })
		if connected {
			b.receive(packet(2, 1, pullData, gateway, ""), home, b.now)
		}
		before := bytes.Clone(datagram)
		reply, ok := b.receive(datagram, home, b.now)
		b.drain()
		if !bytes.Equal(before, datagram) {
			t.Fatal("the datagram was written to")
		}
		if ok && (reply[0] != datagram[0] || reply[1] != datagram[1] || reply[2] != datagram[2] || reply[3] != pushAck && reply[3] != pullAck) {
			t.Fatalf("%x is answered with %x", datagram, reply)
		}
		if b.inFlight.Load() != 0 || b.inFlightBytes.Load() != 0 {
			t.Fatal("something stays in flight")
		}
	})
}

// checking is a Sink that fails the test for what no sink should see.
type checking struct{ *testing.T }

func (c checking) HandleStatus(st messages.GatewayStatus) {
	if len(st.Metrics) > 32 || len(st.Versions) > 32 || st.GatewayEUI != gateway {
		c.Fatalf("status %+v", st)
	}
}

func (c checking) HandleFrame(f messages.Frame) { checkFrame(c.T, f) }

func checkFrame(t *testing.T, f messages.Frame) {
	t.Helper()
	if n := len(f.PHYPayload); n < 12 || n > maxPHY || f.PHYPayload[0]&3 != 0 {
		t.Fatalf("PHYPayload %x", f.PHYPayload)
	}
	if f.Settings.Frequency == 0 || f.Settings.Frequency > math.MaxUint32 || len(f.Rx) == 0 || len(f.Rx) > maxAntennas {
		t.Fatalf("frame %+v", f)
	}
	for _, rx := range f.Rx {
		if rx.GatewayEUI != gateway || math.Abs(float64(rx.SNR)) > 200 || math.Abs(float64(rx.RSSI)) > 200 || rx.Time.After(noon.Add(25*time.Hour)) || !utf8.ValidString(rx.EncryptedFineTimeKey) {
			t.Fatalf("reception %+v", rx)
		}
		if up, ok := parseUplinkToken(rx.UplinkToken); rx.UplinkToken != nil && (!ok || up.eui != gateway || up.tmst != f.Settings.Timestamp) {
			t.Fatalf("token %+v", up)
		}
	}
	// A frame that came in can be answered: the token serves for a downlink.
	if f.Rx[0].UplinkToken != nil {
		req := downlink()
		req.UplinkToken = f.Rx[0].UplinkToken
		if _, err := appendPullResp(nil, 2, 1, req, erp(req.Power)); err != nil {
			t.Fatal(err)
		}
	}
}

// FuzzRxpk compares our reader with encoding/json wherever that takes the document.
func FuzzRxpk(f *testing.F) {
	f.Add([]byte(rxpkJSON(dataUp)))
	f.Add([]byte(strings.Replace(rxpkJSON(joinRequest), "868.1", "8.681e2", 1)))
	f.Add([]byte(`{"freq":869.525,"modu":"FSK","datr":50000,"size":23,"data":"` + base64.StdEncoding.EncodeToString(joinRequest) + `","rsig":[{"ant":1,"lsnr":-5.25}]}`))
	f.Add([]byte(`{"freq":868.1,"stat":-1,"datr":"SF12BW125","data":"","tmst":-5,"x":{"y":[{}]}}`))
	f.Fuzz(func(t *testing.T, doc []byte) {
		var p rxpk
		v, _ := scan(trimLeft(doc))
		reason := p.parse(v, noon)
		var want map[string]json.RawMessage
		// Names with escapes are not looked through: no forwarder writes them.
		if bytes.Contains(doc, []byte(`\`)) || !utf8.Valid(doc) || json.Unmarshal(doc, &want) != nil || want == nil {
			return
		}
		if reason == dropJSON {
			t.Fatal("valid JSON is said not to be")
		}
		number := func(key string) (float64, bool) {
			var f float64
			err := json.Unmarshal(want[key], &f)
			return f, err == nil && string(want[key]) != "null"
		}
		if stat, ok := number("stat"); ok && (math.Round(stat) < 0) != (reason == dropCRC) && math.Abs(stat) < 1<<53 && strings.Count(string(doc), `"stat"`) == 1 {
			t.Fatalf("stat %v: %q", stat, reason)
		}
		if reason != "" {
			return
		}
		compareRxpk(t, &p, string(doc), want, number)
	})
}

func compareRxpk(t *testing.T, p *rxpk, doc string, want map[string]json.RawMessage, number func(string) (float64, bool)) {
	t.Helper()
	once := func(key string) bool { return strings.Count(doc, `"`+key+`"`) == 1 }
	if freq, ok := number("freq"); ok && once("freq") && p.freq != uint64(math.Round(freq*1e6)) {
		t.Fatalf("freq %v: got %d", freq, p.freq)
	}
	if tmst, ok := number("tmst"); ok && once("tmst") && tmst == math.Trunc(tmst) && tmst >= 0 && tmst <= math.MaxUint32 && (!p.hasTmst || p.tmst != uint32(tmst)) {
		t.Fatalf("tmst %v: got %d", tmst, p.tmst)
	}
	if rssi, ok := number("rssi"); ok && once("rssi") && math.Abs(rssi) <= 200 && once("rsig") == false && p.antennas[0].rssi != float32(rssi) {
		t.Fatalf("rssi %v: got %v", rssi, p.antennas[0].rssi)
	}
	var data string
	if err := json.Unmarshal(want["data"], &data); err != nil {
		t.Fatalf("data is no text, but gave %x", p.phy)
	}
	phy, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(data, "="))
	if once("data") && (err != nil || !bytes.Equal(phy, p.phy)) {
		t.Fatalf("data %q: got %x", data, p.phy)
	}
	if size, ok := number("size"); ok && once("size") && math.Round(size) >= 0 && int(math.Round(size)) != len(p.phy) {
		t.Fatalf("size %v of %d bytes", size, len(p.phy))
	}
}

// FuzzTxAck: every body has one of the known outcomes, the same in any case of letters and with a NUL behind it.
func FuzzTxAck(f *testing.F) {
	for _, body := range []string{"", "\x00", `{"txpk_ack":{"error":"NONE"}}`, `{"txpk_ack":{"error":"TOO_LATE"}}`, `{"txpk_ack":{"warn":"TX_POWER"}}`, `{"txpk_ack":`} {
		f.Add([]byte(body))
	}
	known := map[messages.TxError]bool{messages.TxOK: true, messages.TxTooLate: true, messages.TxTooEarly: true, messages.TxCollisionPacket: true,
		messages.TxCollisionBeacon: true, messages.TxFrequency: true, messages.TxPower: true, messages.TxGPSUnlocked: true, messages.TxUnknown: true}
	f.Fuzz(func(t *testing.T, body []byte) {
		got := parseTxAck(body)
		if !known[got] {
			t.Fatalf("outcome %q", got)
		}
		if again := parseTxAck(append(bytes.Clone(body), 0, ' ')); again != got {
			t.Fatalf("%q, and with a NUL %q", got, again)
		}
		var doc struct {
			Ack *struct {
				Error *string `json:"error"`
			} `json:"txpk_ack"`
		}
		if bytes.Contains(body, []byte(`\`)) || bytes.Count(body, []byte("txpk_ack")) > 1 || bytes.Count(body, []byte("error")) > 1 || json.Unmarshal(body, &doc) != nil ||
			!bytes.Contains(body, []byte(`"txpk_ack"`)) || doc.Ack == nil || doc.Ack.Error == nil || !bytes.Contains(body, []byte(`"error"`)) || !utf8.Valid(body) {
			return
		}
		if want := txError([]byte(*doc.Ack.Error)); got != want {
			t.Fatalf("%s: got %q, want %q", body, got, want)
		}
	})
}

// FuzzPullResp: what is written is JSON that says exactly what was asked for.
func FuzzPullResp(f *testing.F) {
	f.Add([]byte{0x60, 1, 2, 3}, uint64(868100000), float32(16), uint8(7), uint32(125000), uint32(0), uint32(1001000), true, uint16(1))
	f.Add([]byte{0x20}, uint64(869525000), float32(29), uint8(12), uint32(125000), uint32(50000), uint32(math.MaxUint32), false, uint16(0xffff))
	f.Fuzz(func(t *testing.T, phy []byte, frequency uint64, power float32, sf uint8, bandwidth, bitRate, tmst uint32, immediately bool, token uint16) {
		req := downlink()
		req.PHYPayload, req.Frequency, req.Power, req.Timestamp = phy, frequency, power, tmst
		req.DataRate = messages.DataRate{SpreadingFactor: sf, Bandwidth: bandwidth}
		if bitRate > 0 {
			req.DataRate = messages.DataRate{Modulation: messages.FSK, BitRate: bitRate}
		}
		if immediately {
			req.Timing = messages.TxImmediately
		}
		b, err := appendPullResp(nil, 2, token, req, erp(req.Power))
		if err != nil {
			return
		}
		var got struct {
			Txpk struct {
				Imme       bool
				Tmst       *uint32
				Freq       float64
				Powe       int
				Datr       any
				Ipol, Ncrc bool
				Size       int
				Data       []byte
			}
		}
		dec := json.NewDecoder(bytes.NewReader(b[4:]))
		if err := dec.Decode(&got); err != nil || tokenOf(b) != token {
			t.Fatalf("%v: %s", err, b[4:])
		}
		tx := got.Txpk
		if tx.Imme != immediately || (tx.Tmst == nil) != immediately || !immediately && *tx.Tmst != tmst || !tx.Ipol || !tx.Ncrc || tx.Size != len(phy) || !bytes.Equal(tx.Data, phy) || tx.Powe < -20 || tx.Powe > 50 {
			t.Fatalf("got %s for %+v", b[4:], req)
		}
		if frequency < 1<<42 && uint64(math.Round(tx.Freq*1e6)) != frequency {
			t.Fatalf("freq %v for %d Hz", tx.Freq, frequency)
		}
		if rate, ok := tx.Datr.(float64); bitRate > 0 && (!ok || rate != float64(bitRate)) {
			t.Fatalf("datr %v for %d bit/s", tx.Datr, bitRate)
		}
	})
}
