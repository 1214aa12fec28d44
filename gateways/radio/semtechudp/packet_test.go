package semtechudp

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"lorikeet/messages"
)

// PROTOCOL.TXT §3
func TestHeadersThatAreNoneAreDropped(t *testing.T) {
	for name, c := range map[string]struct {
		datagram []byte
		want     string
	}{
		"nothing":                {nil, dropShort},
		"one byte short":         {packet(2, 1, pullData, gateway, "")[:11], dropShort},
		"version 0":              {packet(0, 1, pullData, gateway, ""), dropVersion},
		"version 3":              {packet(3, 1, pullData, gateway, ""), dropVersion},
		"PUSH_ACK":               {packet(2, 1, pushAck, gateway, ""), dropKind},
		"PULL_RESP":              {packet(2, 1, pullResp, gateway, ""), dropKind},
		"unknown":                {packet(2, 1, 0x06, gateway, ""), dropKind},
		"forwarder never set up": {packet(2, 1, pushData, messages.EUI64{}, "{}"), dropEUI},
	} {
		b := newBench(t)
		if _, ok := b.receive(c.datagram, home, b.now); ok || b.dropped(c.want) != 1 {
			t.Errorf("%s: acknowledged %v, dropped as %q %d times", name, ok, c.want, b.dropped(c.want))
		}
	}
}

func TestAcknowledgementsEchoVersionAndToken(t *testing.T) {
	b := newBench(t)
	for _, version := range []byte{1, 2} {
		for _, token := range []uint16{0, 1, 0x00ff, 0xabcd, 0xffff} {
			for kind, want := range map[byte]byte{pushData: pushAck, pullData: pullAck} {
				reply, ok := b.receive(packet(version, token, kind, gateway, ""), home, b.now)
				if !ok || reply != [4]byte{version, byte(token >> 8), byte(token), want} {
					t.Errorf("version %d, token %04x, kind %d: got %x, %v", version, token, kind, reply, ok)
				}
			}
		}
	}
}

func TestBodyOfTxAck(t *testing.T) {
	for body, want := range map[string]messages.TxError{
		"": messages.TxOK, "\x00": messages.TxOK, "  \r\n\t": messages.TxOK, "{}": messages.TxOK, "{}\x00": messages.TxOK,
		`{"txpk_ack":{}}`: messages.TxOK, `{"txpk_ack":null}`: messages.TxOK, `{"txpk_ack":{"error":null}}`: messages.TxOK,
		`{"txpk_ack":{"error":""}}`: messages.TxOK, `{"txpk_ack":{"error":"NONE"}}`: messages.TxOK, `{"txpk_ack": {"error": "none"}}`: messages.TxOK,
		`{"txpk_ack":{"error":"OK"}}`:                                messages.TxOK,
		`{"txpk_ack":{"warn":"TX_POWER","value":20}}`:                messages.TxOK,
		`{"txpk_ack":{"error":"NONE","warn":"TX_POWER","value":20}}`: messages.TxOK,
		`{"txpk_ack":{"error":"TOO_LATE"}}`:                          messages.TxTooLate,
		`{"txpk_ack":{"error":"TOO_LATE"}}` + "\x00":                 messages.TxTooLate,
		`{"txpk_ack":{"error":"too_early"}}`:                         messages.TxTooEarly,
		`{"txpk_ack":{"error":"COLLISION_PACKET"}}`:                  messages.TxCollisionPacket,
		`{"txpk_ack":{"error":"COLLISION_BEACON"}}`:                  messages.TxCollisionBeacon,
		`{"txpk_ack":{"error":"TX_FREQ"}}`:                           messages.TxFrequency,
		`{"txpk_ack":{"error":"TX_POWER"}}`:                          messages.TxPower,
		`{"txpk_ack":{"error":"GPS_UNLOCKED"}}`:                      messages.TxGPSUnlocked,
		`{"txpk_ack":{"warn":"x","error":"TOO_LATE"`:                 messages.TxTooLate, // cut, but said
		`{"txpk_ack":{"error":"QUEUE_FULL"}}`:                        messages.TxUnknown,
		`{"txpk_ack":{"error":"INTERNAL_ERROR"}}`:                    messages.TxUnknown,
		`{"txpk_ack":{"error":"DUTY_CYCLE_OVERFLOW"}}`:               messages.TxUnknown,
		`{"txpk_ack":{"error":"IGNORED"}}`:                           messages.TxUnknown,
		`{"txpk_ack":{"error":7}}`:                                   messages.TxUnknown,
		`{"txpk_ack":{"error" "TOO_LATE"}}`:                          messages.TxUnknown,
		`{"txpk_ack"`:                                                messages.TxUnknown,
		`{"txpk_ack":{`:                                              messages.TxUnknown,
		`[]`:                                                         messages.TxUnknown,
		`TOO_LATE`:                                                   messages.TxUnknown,
	} {
		if got := parseTxAck([]byte(body)); got != want {
			t.Errorf("%q: got %q, want %q", body, got, want)
		}
	}
}

func TestPullRespSaysWhenAndHowToSend(t *testing.T) {
	const lora = `"freq":868.1,"rfch":0,"powe":14,"ant":1,"brd":2,"modu":"LORA","datr":"SF7BW125","codr":"4/5","prea":8,"ipol":true,"ncrc":true,"size":12,"data":"YAECAwQFBgcICQoL"}}`
	for name, c := range map[string]struct {
		change func(*messages.TxRequest)
		want   string
	}{
		"class A":      {func(*messages.TxRequest) {}, `{"txpk":{"tmst":1001000,` + lora},
		"tmst 0":       {func(r *messages.TxRequest) { r.Timestamp = 0 }, `{"txpk":{"tmst":0,` + lora},
		"highest tmst": {func(r *messages.TxRequest) { r.Timestamp = 1<<32 - 1 }, `{"txpk":{"tmst":4294967295,` + lora},
		"class C":      {func(r *messages.TxRequest) { r.Timing = messages.TxImmediately }, `{"txpk":{"imme":true,` + lora},
		"class C without an uplink": {func(r *messages.TxRequest) { r.Timing, r.UplinkToken = messages.TxImmediately, nil },
			`{"txpk":{"imme":true,` + strings.Replace(lora, `"ant":1,"brd":2`, `"ant":0,"brd":0`, 1)},
		"27 dBm ERP on 869.525 MHz": {func(r *messages.TxRequest) { r.Frequency, r.Power = 869525000, 29 },
			`{"txpk":{"tmst":1001000,` + strings.Replace(lora, `868.1,"rfch":0,"powe":14`, `869.525,"rfch":0,"powe":27`, 1)},
		"SF5": {func(r *messages.TxRequest) { r.DataRate.SpreadingFactor = 5 },
			`{"txpk":{"tmst":1001000,` + strings.Replace(strings.Replace(lora, "SF7", "SF5", 1), `"prea":8`, `"prea":12`, 1)},
		"2.4 GHz": {func(r *messages.TxRequest) {
			r.Frequency, r.DataRate = 2423000000, messages.DataRate{SpreadingFactor: 12, Bandwidth: 812000, CodingRate: "4/8LI"}
		}, `{"txpk":{"tmst":1001000,` + strings.Replace(strings.Replace(lora, "868.1", "2423", 1), `SF7BW125","codr":"4/5"`, `SF12BW812","codr":"4/8LI"`, 1)},
		"FSK": {func(r *messages.TxRequest) { r.DataRate = messages.DataRate{Modulation: messages.FSK, BitRate: 50000} },
			`{"txpk":{"tmst":1001000,` + strings.Replace(lora, `"LORA","datr":"SF7BW125","codr":"4/5","prea":8`, `"FSK","datr":50000,"fdev":25000,"prea":5`, 1)},
	} {
		req := downlink()
		c.change(&req)
		for _, version := range []byte{1, 2} {
			got, err := appendPullResp(nil, version, 0x1234, req, erp(req.Power))
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if diff := cmp.Diff(string([]byte{version, 0x12, 0x34, pullResp})+c.want, string(got)); diff != "" {
				t.Errorf("%s: %s", name, diff)
			}
			if !json.Valid(got[4:]) {
				t.Errorf("%s: not JSON: %s", name, got[4:])
			}
		}
	}
}

func TestDownlinksThatCantBeAreRefused(t *testing.T) {
	for name, change := range map[string]func(*messages.TxRequest){
		"token of another radio gateway": func(r *messages.TxRequest) { r.UplinkToken = uplinkToken{eui: messages.EUI64{1}}.bytes() },
		"token of another door":          func(r *messages.TxRequest) { r.UplinkToken = []byte{1, 2, 3} },
		"timestamp without a token":      func(r *messages.TxRequest) { r.UplinkToken = nil },
		"nothing to send":                func(r *messages.TxRequest) { r.PHYPayload = nil },
		"256 bytes":                      func(r *messages.TxRequest) { r.PHYPayload = make([]byte, 256) },
		"no frequency":                   func(r *messages.TxRequest) { r.Frequency = 0 },
		"LR-FHSS": func(r *messages.TxRequest) {
			r.DataRate = messages.DataRate{Modulation: messages.LRFHSS, Bandwidth: 137000}
		},
		"no data rate":         func(r *messages.TxRequest) { r.DataRate = messages.DataRate{} },
		"FSK without bit rate": func(r *messages.TxRequest) { r.DataRate = messages.DataRate{Modulation: messages.FSK} },
	} {
		req := downlink()
		change(&req)
		if got, err := appendPullResp(nil, 2, 1, req, erp(req.Power)); err == nil {
			t.Errorf("%s: got %s", name, got)
		}
	}
}

func TestPowerIsWhatTheForwarderCallsIt(t *testing.T) {
	for eirp, want := range map[float32]int64{16: 14, 29: 27, 21: 19, 2.15: 0, 0: -2, -100: -20, 1000: 50} {
		if got := erp(eirp); got != want {
			t.Errorf("%v dBm EIRP: got powe %d, want %d", eirp, got, want)
		}
	}
}

func TestUplinkTokenRoundTrip(t *testing.T) {
	want := uplinkToken{eui: gateway, tmst: 0xfffefdfc, antenna: 1, board: 2, rfChain: 3}
	if got, ok := parseUplinkToken(want.bytes()); !ok || got != want {
		t.Errorf("got %+v, %v; want %+v", got, ok, want)
	}
	for _, b := range [][]byte{nil, {}, make([]byte, uplinkTokenSize), want.bytes()[:15], append(want.bytes(), 0)} {
		if got, ok := parseUplinkToken(b); ok {
			t.Errorf("%x: got %+v", b, got)
		}
	}
}
