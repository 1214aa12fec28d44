package test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"lorikeet/cmd/lorikeet/simulator"
)

// These tests walk what clients of The Things Stack v3 rely on, one line of that list each, against the real binary with a stock MQTT client and plain HTTP.
// They look at the bytes on the wire and use none of the server's types.

// answer is what an HTTP client sees.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// json gives the body as an object.
func (a answer) json(t testing.TB) object {
	t.Helper()
	out := object{}
	if err := json.Unmarshal(a.body, &out); err != nil {
		t.Fatalf("answer %d is not a JSON object: %v: %s", a.status, err, a.body)
	}
	return out
}

// http makes a call with a key below /api/v3, as curl does: a body is sent as it is.
func (p *process) http(t testing.TB, key, method, path, body string, headers ...string) answer {
	t.Helper()
	req, err := http.NewRequest(method, "http://"+p.rest+"/api/v3"+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if key != "" {
		req.Header.Set("Authorization", "Bearer "+key)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	client := &http.Client{Timeout: patience}
	res, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{status: res.StatusCode, header: res.Header, body: b}
}

// must is http with the status 200.
func (p *process) must(t testing.TB, key, method, path, body string) answer {
	t.Helper()
	a := p.http(t, key, method, path, body)
	if a.status != http.StatusOK {
		t.Fatalf("%s %s: %d %s", method, path, a.status, a.body)
	}
	return a
}

// at gives the member of nested objects and lists that a path such as "a.b.0.c" names, nil if there is none.
func at(v any, path string) any {
	for _, name := range strings.Split(path, ".") {
		switch x := v.(type) {
		case object:
			v = x[name]
		case []any:
			var i int
			if _, err := fmt.Sscan(name, &i); err != nil || i >= len(x) {
				return nil
			}
			v = x[i]
		default:
			return nil
		}
	}
	return v
}

// client is one application with a device on air, seen by MQTT as "#".
type client struct {
	*process
	*radio
	app, key string
	mqtt     mqtt.Client
	live     *inbox
	twin     simulator.State // of a device with the same keys that hears nothing
}

// newClient makes an application with a device on a server that runs.
func newClient(t testing.TB, p *process, app string, id simulator.Identity, gateways int) *client {
	t.Helper()
	c := &client{process: p, app: app, key: p.application(app)}
	p.device(app, id, simulator.EU868)
	c.mqtt = mqttLogin(t, p.mqtt, app, c.key, nil)
	c.live = mqttInbox(t, c.mqtt, "#", 0)
	c.radio = newRadio(t, p, id, simulator.EU868, gateways)
	return c
}

func (c *client) devicePath(rest string) string {
	return "/as/applications/" + c.app + "/devices/" + c.id.DeviceID + rest
}

// uplink sends and gives the event as JSON.
func (c *client) uplink(u simulator.Uplink) (object, received) {
	t := c.radio.t
	t.Helper()
	tx := c.send(u)
	r := c.live.uplink(c.id.DeviceID, tx.FCnt)
	out := object{}
	if err := json.Unmarshal(r.body, &out); err != nil {
		t.Fatal(err)
	}
	return out, r
}

// zeros lists members with a zero value, which JSON of The Things Stack leaves out.
func zeros(v any, path string) (out []string) {
	switch x := v.(type) {
	case object:
		for name, member := range x {
			if name != "decoded_payload" {
				out = append(out, zeros(member, path+"."+name)...)
			}
		}
		if len(x) == 0 {
			out = append(out, path)
		}
	case []any:
		for i, member := range x {
			out = append(out, zeros(member, fmt.Sprint(path, ".", i))...)
		}
		if len(x) == 0 {
			out = append(out, path)
		}
	case nil, bool, float64, string:
		if x == nil || x == false || x == 0.0 || x == "" {
			out = append(out, path)
		}
	}
	return out
}

var (
	upperEUI  = regexp.MustCompile(`^[0-9A-F]{16}$`)
	upperAddr = regexp.MustCompile(`^[0-9A-F]{8}$`)
	number    = regexp.MustCompile(`^[1-9][0-9]*$`)
	timeZ     = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z$`)
	duration  = regexp.MustCompile(`^\d+(\.\d{1,9})?s$`)
)

func TestConformanceJSON(t *testing.T) {
	t.Parallel()
	p := start(t)
	c := newClient(t, p, "conf-json", simulator.MakeIdentity(601, 0, simulator.ABP), 1)
	up, raw := c.uplink(simulator.Uplink{FPort: 1, Payload: []byte{0xfb, 0xff, 0xfe}})

	t.Run("zero values are left out", func(t *testing.T) {
		if found := zeros(up, ""); len(found) > 0 {
			t.Errorf("%v in %s", found, raw.body)
		}
		if at(up, "uplink_message.f_cnt") != nil {
			t.Errorf("this uplink should have f_cnt 0: %s", raw.body)
		}
	})
	t.Run("forms of values", func(t *testing.T) {
		for path, form := range map[string]*regexp.Regexp{
			"end_device_ids.dev_eui": upperEUI, "end_device_ids.dev_addr": upperAddr, "uplink_message.rx_metadata.0.gateway_ids.eui": upperEUI,
			"uplink_message.settings.frequency": number, "received_at": timeZ, "uplink_message.received_at": timeZ, "uplink_message.rx_metadata.0.received_at": timeZ,
			"uplink_message.consumed_airtime": duration,
		} {
			if s, ok := at(up, path).(string); !ok || !form.MatchString(s) {
				t.Errorf("%s: %v is no string of form %s", path, at(up, path), form)
			}
		}
		if b, err := base64.StdEncoding.DecodeString(at(up, "uplink_message.frm_payload").(string)); err != nil || !bytes.Equal(b, []byte{0xfb, 0xff, 0xfe}) {
			t.Errorf("frm_payload %v: %v", at(up, "uplink_message.frm_payload"), err)
		}
		for path, want := range map[string]any{
			"uplink_message.f_port": 1.0, "uplink_message.settings.data_rate.lora.bandwidth": 125000.0, "uplink_message.settings.data_rate.lora.spreading_factor": 7.0,
			"uplink_message.settings.data_rate.lora.coding_rate": "4/5", "end_device_ids.application_ids.application_id": c.app,
		} {
			if got := at(up, path); got != want {
				t.Errorf("%s: %v, want %v", path, got, want)
			}
		}
	})
	t.Run("received_at at three levels", func(t *testing.T) {
		var times []time.Time
		for _, path := range []string{"uplink_message.rx_metadata.0.received_at", "uplink_message.received_at", "received_at"} {
			at, err := time.Parse(time.RFC3339Nano, at(up, path).(string))
			if err != nil {
				t.Fatal(err)
			}
			times = append(times, at)
		}
		if times[1].Before(times[0]) || times[2].Before(times[1]) {
			t.Errorf("radio gateway, network and application server: %v", times)
		}
	})
	t.Run("correlation ids", func(t *testing.T) {
		ids := fmt.Sprint(up["correlation_ids"])
		for _, prefix := range []string{"gs:uplink:", "ns:uplink:", "as:up:"} {
			if !strings.Contains(ids, prefix) {
				t.Errorf("%s has no %s", ids, prefix)
			}
		}
	})
	t.Run("unknown members are taken", func(t *testing.T) {
		body := `{"downlinks":[{"f_port":1,"frm_payload":"AQ==","of_the_future":{"x":1},"correlation_ids":["with-more"]}],"more":true}`
		if a := p.http(t, c.key, "POST", c.devicePath("/down/push"), body); a.status != 200 {
			t.Errorf("%d %s", a.status, a.body)
		}
		c.live.down("queued", "with-more")
		finish(t, c.mqtt.Publish("v3/"+c.app+"/devices/"+c.id.DeviceID+"/down/push", 0, false, strings.ReplaceAll(body, "with-more", "more-by-mqtt")))
		c.live.down("queued", "more-by-mqtt")
	})
	t.Run("what came can be sent", func(t *testing.T) {
		queued := object{}
		if err := json.Unmarshal(c.live.down("queued", "with-more").body, &queued); err != nil {
			t.Fatal(err)
		}
		item := queued["downlink_queued"].(object)
		item["correlation_ids"] = []string{"echoed"}
		body, err := json.Marshal(object{"downlinks": []any{item}})
		if err != nil {
			t.Fatal(err)
		}
		p.must(t, c.key, "POST", c.devicePath("/down/push"), string(body))
		c.live.down("queued", "echoed")
	})
}

// simulated are bodies of all message types, with the topics they are published on.
var simulated = map[string]struct{ topic, body string }{
	"uplink_message":             {"up", `{"f_port":1,"f_cnt":999999,"frm_payload":"AQI="}`},
	"uplink_normalized":          {"up/normalized", `{"f_port":1,"frm_payload":"AQI=","normalized_payload":{"air":{"temperature":20.5}}}`},
	"join_accept":                {"join", `{"session_key_id":"AYfg8rhha5n+FWx0ZaAprA=="}`},
	"downlink_queued":            {"down/queued", `{"f_port":1,"frm_payload":"AQ=="}`},
	"downlink_sent":              {"down/sent", `{"f_port":1,"frm_payload":"AQ=="}`},
	"downlink_ack":               {"down/ack", `{"f_port":1,"frm_payload":"AQ==","confirmed":true}`},
	"downlink_nack":              {"down/nack", `{"f_port":1,"frm_payload":"AQ==","confirmed":true}`},
	"downlink_failed":            {"down/failed", `{"downlink":{"f_port":1,"frm_payload":"AQ=="},"error":{"namespace":"pkg/networkserver","name":"downlink_expired","code":9}}`},
	"downlink_queue_invalidated": {"down/invalidated", `{"downlinks":[{"f_port":1,"frm_payload":"AQ==","f_cnt":3}],"last_f_cnt_down":2}`},
	"location_solved":            {"location/solved", `{"service":"frm-payload","location":{"latitude":52.3,"longitude":4.8,"source":"SOURCE_GPS"}}`},
	"service_data":               {"service/data", `{"service":"my-service","data":{"x":1}}`},
}

func TestConformanceMQTT(t *testing.T) {
	t.Parallel()
	p := start(t)
	c := newClient(t, p, "conf-mqtt", simulator.MakeIdentity(602, 0, simulator.ABP), 1)
	other := p.application("conf-other")
	p.device("conf-other", simulator.MakeIdentity(603, 0, simulator.ABP), simulator.EU868)

	t.Run("every type has its topic and the whole message", func(t *testing.T) {
		for name, s := range simulated {
			body := fmt.Sprintf(`{"correlation_ids":["simulated-%s"],%q:%s}`, name, name, s.body)
			p.must(t, c.key, "POST", c.devicePath("/up/simulate"), body)
			r := c.live.wait("simulated "+name, func(r received) bool { return strings.Contains(string(r.body), `"simulated-`+name+`"`) })
			if want := "v3/" + c.app + "/devices/" + c.id.DeviceID + "/" + s.topic; r.topic != want {
				t.Errorf("%s is published on %s, want %s", name, r.topic, want)
			}
			whole := object{}
			if err := json.Unmarshal(r.body, &whole); err != nil {
				t.Fatal(err)
			}
			if at(whole, "end_device_ids.device_id") != c.id.DeviceID || whole["simulated"] != true || whole[name] == nil {
				t.Errorf("%s: %s", name, r.body)
			}
		}
	})
	t.Run("filters are rewritten", func(t *testing.T) {
		for _, filter := range []string{"#", "v3/#", "v3/+/devices/+/up", "v3/+/devices/" + c.id.DeviceID + "/up", "v3/" + c.app + "/#", "v3/" + c.app + "/devices/+/up"} {
			m := mqttLogin(t, p.mqtt, c.app, c.key, nil)
			b := mqttInbox(t, m, filter, 0)
			_, sent := c.uplink(simulator.Uplink{FPort: 2, Payload: []byte{1}})
			got := b.wait("the uplink", func(r received) bool { return r.topic == sent.topic && bytes.Equal(r.body, sent.body) })
			if !strings.HasPrefix(got.topic, "v3/"+c.app+"/") {
				t.Errorf("%s: topic %s", filter, got.topic)
			}
		}
		for _, filter := range []string{"v3/conf-other/#", "v3/conf-other/devices/+/up", "other/#", "$SYS/#"} {
			if code := subackCode(t, c.mqtt, filter); code != 0x80 {
				t.Errorf("subscription to %s: code %#x", filter, code)
			}
		}
	})
	t.Run("user name with and without tenant", func(t *testing.T) {
		for _, tenant := range []string{"@ttn", "@my-tenant"} {
			m := mqttLogin(t, p.mqtt, c.app+tenant, c.key, nil)
			b := mqttInbox(t, m, "v3/"+c.app+tenant+"/devices/+/up", 0)
			_, sent := c.uplink(simulator.Uplink{FPort: 2, Payload: []byte{2}})
			got := b.wait("the uplink", func(r received) bool { return bytes.Equal(r.body, sent.body) })
			if want := "v3/" + c.app + tenant + "/devices/" + c.id.DeviceID + "/up"; got.topic != want {
				t.Errorf("topic %s, want %s", got.topic, want)
			}
			finish(t, m.Publish("v3/"+c.app+tenant+"/devices/"+c.id.DeviceID+"/down/push", 0, false, `{"downlinks":[{"f_port":1,"frm_payload":"AQ==","correlation_ids":["by`+tenant+`"]}]}`))
			c.live.down("queued", "by"+tenant)
		}
	})
	t.Run("wrong logins are refused", func(t *testing.T) {
		for name, login := range map[string][2]string{"wrong key": {c.app, "NNSXS.AAAA.BBBB"}, "key of another": {c.app, other}, "unknown application": {"conf-none", c.key}, "nothing": {"", ""}} {
			m := mqtt.NewClient(mqtt.NewClientOptions().AddBroker("tcp://" + p.mqtt).SetUsername(login[0]).SetPassword(login[1]))
			if token := m.Connect(); !token.WaitTimeout(patience) || token.Error() == nil {
				t.Errorf("%s: was let in", name)
				m.Disconnect(0)
			}
		}
	})
	t.Run("replace with nothing clears", func(t *testing.T) {
		topic := "v3/" + c.app + "/devices/" + c.id.DeviceID + "/down/"
		finish(t, c.mqtt.Publish(topic+"push", 1, false, `{"downlinks":[{"f_port":1,"frm_payload":"AQ==","correlation_ids":["first"]},{"f_port":1,"frm_payload":"Ag==","correlation_ids":["second"]}]}`))
		c.live.down("queued", "second")
		finish(t, c.mqtt.Publish(topic+"replace", 1, false, `{"downlinks":[{"f_port":4,"frm_payload":"Aw==","correlation_ids":["third"]}]}`))
		c.live.down("queued", "third")
		list := p.must(t, c.key, "GET", c.devicePath("/down"), "").json(t)
		if items, _ := list["downlinks"].([]any); len(items) != 1 || at(list, "downlinks.0.frm_payload") != "Aw==" || at(list, "downlinks.0.f_port") != 4.0 {
			t.Errorf("after replace: %v", list)
		}
		finish(t, c.mqtt.Publish(topic+"replace", 1, false, `{"downlinks":[]}`))
		if list := p.must(t, c.key, "GET", c.devicePath("/down"), ""); strings.Contains(string(list.body), "frm_payload") {
			t.Errorf("after replace with nothing: %s", list.body)
		}
	})
}

// subackCode subscribes and gives the code of the answer.
func subackCode(t testing.TB, c mqtt.Client, filter string) byte {
	t.Helper()
	token := c.Subscribe(filter, 0, func(mqtt.Client, mqtt.Message) {})
	if !token.WaitTimeout(patience) {
		t.Fatal("no SUBACK")
	}
	code, ok := token.(*mqtt.SubscribeToken).Result()[filter]
	if !ok {
		t.Fatalf("%s: %v", filter, token.Error())
	}
	return code
}
