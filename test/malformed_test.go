package test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"testing"

	"lorikeet/cmd/lorikeet/simulator"
)

// TestMalformedInputAtEveryDoor sends nonsense and attacks through each door. Each gets a refusal or a counted drop, and the service goes on.
func TestMalformedInputAtEveryDoor(t *testing.T) {
	t.Parallel()
	const app = "tough-app"
	id := simulator.MakeIdentity(12, 0, simulator.ABP)
	e := startEverything(t, app, id, simulator.EU868, 1)
	works := func(after string) {
		t.Helper()
		tx := e.send(simulator.Uplink{FPort: 1, Payload: []byte{1, 1}})
		if got := e.hook.uplink(id.DeviceID, tx.FCnt); string(got.up.UplinkMessage.DecodedPayload) != `{"port":1,"sum":2}` {
			t.Fatalf("after %s: %s", after, got.body)
		}
		e.live.uplink(id.DeviceID, tx.FCnt)
	}
	works("the start")
	e.badDatagrams(t)
	works("bad datagrams")
	e.badMQTT(t)
	works("bad MQTT packets")
	e.badREST(t, app)
	works("bad REST requests")
	e.badCommands(t, app)
	works("bad downlink commands")
	e.badScripts(t, app)
	works("bad scripts")
	var metrics bytes.Buffer
	res, err := http.Get("http://" + e.rest + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if _, err := io.Copy(&metrics, res.Body); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"lorikeet_uplinks_total", "lorikeet_device_failures_total 0"} {
		if !strings.Contains(metrics.String(), want) {
			t.Errorf("metrics lack %s", want)
		}
	}
}

func (e *everything) badDatagrams(t *testing.T) {
	c, err := net.Dial("udp", e.udp)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	rnd := rand.New(rand.NewPCG(1, 2))
	eui := []byte{2, 1, 1, 0xff, 0xfe, 0, 0, 9}
	packet := func(version, kind byte, body string) []byte {
		return append(append([]byte{version, 1, 2, kind}, eui...), body...)
	}
	all := [][]byte{{}, {2}, {2, 0, 0, 0}, {9, 1, 2, 0}, packet(2, 0, ""), packet(2, 0, "{"), packet(2, 0, `{"rxpk":`), packet(2, 0, `{"rxpk":[]}`), packet(2, 0, `{"rxpk":{}}`),
		packet(2, 0, `{"rxpk":[null,1,"x",[],{}]}`), packet(2, 0, `{"stat":[]}`), packet(2, 5, `{"txpk_ack":7}`), packet(1, 77, "x"), bytes.Repeat([]byte{'['}, 60000),
		packet(2, 0, `{"rxpk":[`+strings.Repeat(`{"data":"AAAA"},`, 3000)+`{}]}`)}
	for range 300 {
		phy := make([]byte, rnd.IntN(60))
		for i := range phy {
			phy[i] = byte(rnd.Uint32())
		}
		all = append(all, packet(2, 0, fmt.Sprintf(`{"rxpk":[{"tmst":1,"freq":868.1,"stat":1,"modu":"LORA","datr":"SF7BW125","codr":"4/5","rssi":-30,"lsnr":5,"size":%d,"data":"%s"}]}`,
			len(phy), base64.StdEncoding.EncodeToString(phy))), phy)
	}
	for _, b := range all {
		if _, err := c.Write(b); err != nil && len(b) > 0 {
			t.Fatal(err)
		}
	}
}

func (e *everything) badMQTT(t *testing.T) {
	connect := []byte{0x10, 0x10, 0, 4, 'M', 'Q', 'T', 'T', 5, 2, 0, 60, 0, 0, 3, 'a', 'b', 'c'}
	login := func(user, password string) []byte {
		text := func(s string) []byte { return append([]byte{0, byte(len(s))}, s...) }
		body := append([]byte{0, 4, 'M', 'Q', 'T', 'T', 5, 0xc2, 0, 60, 0}, text("x")...)
		body = append(append(body, text(user)...), text(password)...)
		return append([]byte{0x10, byte(len(body)), 0}[:2], body...)
	}
	key := e.key
	for _, b := range [][]byte{
		{}, {0}, {0xff, 0xff, 0xff, 0xff, 0xff}, {0x10, 0xff, 0xff, 0xff, 0x7f}, connect, append(connect, 0x82, 6, 0, 1, 0, 0, 1, 'a'),
		append(login("tough-app", key[:min(len(key), 100)]), 0x82, 6, 0, 1, 0, 0, 1, 'a'), bytes.Repeat([]byte{0x82}, 5000),
		[]byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
	} {
		c, err := net.Dial("tcp", e.process.mqtt)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = c.Write(b)
		_ = c.(*net.TCPConn).CloseWrite()
		_, _ = io.Copy(io.Discard, c) // until the server hangs up
		_ = c.Close()
	}
}

func (e *everything) badREST(t *testing.T, app string) {
	device := "/api/v3/applications/" + app + "/devices"
	for _, r := range []struct {
		method, path, body string
		want               []int
	}{
		{"POST", device, `{`, []int{400}}, {"POST", device, `[]`, []int{400}}, {"POST", device, `{"end_device":7}`, []int{400}}, {"POST", device, `{"end_device":{"ids":{"device_id":"UPPER"}}}`, []int{400}},
		{"POST", device, strings.Repeat("[", 100000), []int{400}}, {"POST", device, strings.Repeat(" ", 40<<20), []int{413, 400}},
		{"POST", device, `{"end_device":{"ids":{"device_id":"dev-x","dev_eui":"zz"}}}`, []int{400}},
		{"PUT", "/api/v3/as/applications/" + app + "/link", `{"link":{"default_formatters":{"up_formatter":"FORMATTER_COBOL"}}}`, []int{400}},
		{"POST", "/api/v3/as/webhooks/" + app, `{"webhook":{"ids":{"webhook_id":"bad"},"base_url":"ftp://x"}}`, []int{400}},
		{"POST", "/api/v3/as/applications/" + app + "/devices/" + e.id.DeviceID + "/down/push", `{"f_port":1}`, []int{400}},
		{"POST", "/api/v3/as/applications/" + app + "/devices/" + e.id.DeviceID + "/down/push", `{"downlinks":[{"f_port":1,"frm_payload":"AA==","priority":"TOP"}]}`, []int{400}},
		{"GET", "/api/v3/applications/no-such-app/devices", "", []int{404}}, {"GET", "/api/v3/nothing", "", []int{404}}, {"DELETE", "/api/v3/applications", "", []int{404, 405, 501}},
	} {
		req, err := http.NewRequest(r.method, "http://"+e.rest+r.path, strings.NewReader(r.body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+adminKey)
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			if len(r.body) > 1<<20 {
				continue // the server may hang up on a body that is too large
			}
			t.Fatal(err)
		}
		body, err := io.ReadAll(res.Body)
		_ = res.Body.Close()
		var answer struct {
			Code    int    `json:"code"`
			Message string `json:"message"`
		}
		if err != nil || json.Unmarshal(body, &answer) != nil || answer.Message == "" || answer.Code == 0 {
			t.Errorf("%s %s: %d without an error in TTS form: %.200s (%v)", r.method, r.path, res.StatusCode, body, err)
		}
		found := false
		for _, want := range r.want {
			found = found || res.StatusCode == want
		}
		if !found {
			t.Errorf("%s %s %.60s: %d, want one of %v: %.300s", r.method, r.path, r.body, res.StatusCode, r.want, body)
		}
	}
	for _, key := range []string{"", "Bearer ", "Bearer NNSXS.AAAA.BBBB", "Basic x", "Bearer " + strings.Repeat("x", 5000)} {
		req, err := http.NewRequest("GET", "http://"+e.rest+device, nil)
		if err != nil {
			t.Fatal(err)
		}
		if key != "" {
			req.Header.Set("Authorization", key)
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		if res.StatusCode != 401 {
			t.Errorf("key %.30q: %d, want 401", key, res.StatusCode)
		}
	}
}

func (e *everything) badCommands(t *testing.T, app string) {
	for i, body := range []string{
		`{"downlinks":[{"f_port":1,"frm_payload":"!!","correlation_ids":["bad-%d"]}]}`,
		`{"downlinks":[{"f_port":1,"frm_payload":"AA==","priority":"top","correlation_ids":["bad-%d"]}]}`,
		`{"downlinks":[{"f_port":300,"frm_payload":"AA==","correlation_ids":["bad-%d"]}]}`,
		`{"downlinks":[{"decoded_payload":{"value":"x"},"correlation_ids":["bad-%d"]}],"more":{"a":1}}`,
	} {
		correlation := fmt.Sprintf("bad-%d", i)
		body = fmt.Sprintf(body, i)
		finish(t, e.mqtt.Publish("v3/"+app+"/devices/"+e.id.DeviceID+"/down/push", 1, false, body))
		for _, b := range e.inboxes() {
			if f := b.down("failed", correlation).up.DownlinkFailed; f.Error == nil || f.Error.Name == "" {
				t.Errorf("%s: failed without a reason", b.name)
			}
		}
	}
}

func (e *everything) badScripts(t *testing.T, app string) {
	for i, script := range []object{
		{"up_formatter": "FORMATTER_JAVASCRIPT", "up_formatter_parameter": "function decodeUplink(input) { while (true) {} }"},
		{"up_formatter": "FORMATTER_JAVASCRIPT", "up_formatter_parameter": "function decodeUplink(input) { var a = []; while (true) a.push('x'.repeat(1 << 20)); }"},
		{"up_formatter": "FORMATTER_LUA", "up_formatter_parameter": "function decodeUplink(input) return string.rep('x', 1e10) end"},
		{"up_formatter": "FORMATTER_LUA", "up_formatter_parameter": "function decodeUplink(input) while true do end end"},
		{"up_formatter": "FORMATTER_LUA", "up_formatter_parameter": "function decodeUplink(input) return {errors = {'out of range'}} end"},
	} {
		id := simulator.MakeIdentity(13, i, simulator.ABP)
		e.device(app, id, simulator.EU868)
		e.call("PUT", "/as/applications/"+app+"/devices/"+id.DeviceID, object{"end_device": object{"formatters": script}, "field_mask": object{"paths": []string{"formatters"}}}, nil)
		dev, err := e.air.AddDevice(simulator.MACConfig{DevEUI: id.DevEUI, JoinEUI: id.JoinEUI, ABP: id.ABP, Region: simulator.EU868, DataRate: -1}, e.gw)
		if err != nil {
			t.Fatal(err)
		}
		tx, err := dev.Send(simulator.Uplink{FPort: 1, Payload: []byte{1, 1}})
		if err != nil {
			t.Fatal(err)
		}
		got := e.hook.uplink(id.DeviceID, tx.FCnt)
		if u := got.up.UplinkMessage; u.DecodeError == "" || len(u.DecodedPayload) > 0 || len(u.FRMPayload) != 2 {
			t.Errorf("%v: %s", script, got.body)
		}
	}
}
