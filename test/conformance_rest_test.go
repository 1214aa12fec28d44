package test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"lorikeet/cmd/lorikeet/simulator"
)

func TestConformanceWebhookHeaders(t *testing.T) {
	t.Parallel()
	p := start(t)
	c := newClient(t, p, "conf-hook", simulator.MakeIdentity(604, 0, simulator.ABP), 1)
	requests := make(chan string, 16)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() { // reads a request as text: the case of header names is what is looked at
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			head := ""
			for r := bufio.NewReader(conn); ; {
				line, err := r.ReadString('\n')
				if err != nil || line == "\r\n" {
					break
				}
				head += line
			}
			requests <- head
			_, _ = conn.Write([]byte("HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n"))
			_ = conn.Close()
		}
	}()
	p.must(t, c.key, "POST", "/as/webhooks/"+c.app, `{"webhook":{"ids":{"webhook_id":"the-hook"},"base_url":"http://`+l.Addr().String()+
		`/base{/appID}","format":"json","headers":{"X-Own":"1"},"downlink_api_key":"`+c.key+`","uplink_message":{"path":"/up{/devID}"}}}`)
	c.send(simulator.Uplink{FPort: 1, Payload: []byte{1}})
	var head string
	select {
	case head = <-requests:
	case <-time.After(patience):
		t.Fatal("no request")
	}
	base := "/api/v3/as/applications/" + c.app + "/webhooks/the-hook/devices/" + c.id.DeviceID + "/down/"
	for _, want := range []string{
		"POST /base/" + c.app + "/up/" + c.id.DeviceID + " HTTP/1.1\r\n", "\r\nX-Downlink-Apikey: " + c.key + "\r\n", base + "push\r\n", base + "replace\r\n",
		"\r\nX-Downlink-Push: http", "\r\nX-Downlink-Replace: http", "\r\nX-Tts-Domain: ", "\r\nContent-Type: application/json\r\n", "\r\nX-Own: 1\r\n", "\r\nUser-Agent: ",
	} {
		if !strings.Contains(head, want) {
			t.Errorf("%q is not in the request:\n%s", want, head)
		}
	}
	for path, want := range map[string]int{
		"push": 200, "replace": 200,
	} {
		a := p.http(t, c.key, "POST", strings.TrimPrefix(base, "/api/v3")+path, `{"downlinks":[{"f_port":1,"frm_payload":"AQ==","correlation_ids":["hook-`+path+`"]}]}`)
		if a.status != want {
			t.Errorf("%s: %d %s", path, a.status, a.body)
		}
		c.live.down("queued", "hook-"+path)
	}
	missing := strings.Replace(strings.TrimPrefix(base, "/api/v3"), "the-hook", "no-hook", 1)
	if a := p.http(t, c.key, "POST", missing+"push", `{"downlinks":[]}`); a.status != 404 {
		t.Errorf("a webhook that there is not: %d %s", a.status, a.body)
	}
	p.must(t, c.key, "PUT", "/as/webhooks/"+c.app+"/the-hook", `{"webhook":{"paused":true},"field_mask":{"paths":["paused"]}}`)
	if a := p.http(t, c.key, "POST", strings.TrimPrefix(base, "/api/v3")+"push", `{"downlinks":[]}`); a.status != 406 {
		t.Errorf("a paused webhook: %d %s", a.status, a.body)
	}
}

func TestConformanceErrors(t *testing.T) {
	t.Parallel()
	p := start(t)
	key := p.application("conf-errors")
	p.application("conf-elsewhere")
	p.device("conf-errors", simulator.MakeIdentity(605, 0, simulator.ABP), simulator.EU868)
	created := `{"application":{"ids":{"application_id":"conf-errors"}}}`
	cases := map[string]struct {
		key, method, path, body string
		status                  int
		code                    float64
		name                    string
	}{
		"no key":               {"", "GET", "/applications/conf-errors", "", 401, 16, ""},
		"wrong key":            {"NNSXS.XXXX.YYYY", "GET", "/applications/conf-errors", "", 401, 16, ""},
		"key of another":       {key, "GET", "/applications/conf-elsewhere", "", 403, 7, ""},
		"no such device":       {key, "GET", "/applications/conf-errors/devices/no-such-device", "", 404, 5, ""},
		"no such device, push": {key, "POST", "/as/applications/conf-errors/devices/no-such-device/down/push", `{"downlinks":[{"f_port":1,"frm_payload":"AQ=="}]}`, 404, 5, "device_not_found"},
		"no such webhook":      {key, "GET", "/as/webhooks/conf-errors/no-such-hook", "", 404, 5, "webhook_not_found"},
		"exists":               {adminKey, "POST", "/users/admin/applications", created, 409, 6, ""},
		"not JSON":             {key, "POST", "/as/webhooks/conf-errors", `{"webhook":`, 400, 3, ""},
		"upper case id":        {key, "POST", "/applications/conf-errors/devices", `{"end_device":{"ids":{"device_id":"Upper-Case"}}}`, 400, 3, ""},
		"short id":             {key, "POST", "/applications/conf-errors/devices", `{"end_device":{"ids":{"device_id":"ab"}}}`, 400, 3, ""},
		"no such path":         {key, "GET", "/no/such/path", "", 404, 5, ""},
		"not implemented":      {key, "GET", "/as/applications/conf-errors/link/stats", "", 501, 12, ""},
	}
	for what, c := range cases {
		t.Run(what, func(t *testing.T) {
			a := p.http(t, c.key, c.method, c.path, c.body)
			e := a.json(t)
			if a.status != c.status || e["code"] != c.code {
				t.Errorf("%d %s, want status %d and code %v", a.status, a.body, c.status, c.code)
			}
			message, _ := e["message"].(string)
			if !strings.HasPrefix(message, "error:pkg/") || !strings.HasSuffix(message, ")") {
				t.Errorf("message %q", message)
			}
			if at(e, "details.0.@type") != "type.googleapis.com/ttn.lorawan.v3.ErrorDetails" || at(e, "details.0.namespace") == nil || at(e, "details.0.code") != c.code {
				t.Errorf("details %s", a.body)
			}
			if name := at(e, "details.0.name"); name == nil || c.name != "" && name != c.name {
				t.Errorf("name %v, want %s", name, c.name)
			}
			if !strings.HasPrefix(a.header.Get("Content-Type"), "application/json") {
				t.Errorf("content type %s", a.header.Get("Content-Type"))
			}
		})
	}
	t.Run("the word Bearer", func(t *testing.T) {
		for scheme, want := range map[string]int{"Bearer " + key: 200, "bearer " + key: 200, "Basic " + key: 401, key: 401} {
			if a := p.http(t, "", "GET", "/applications/conf-errors", "", "Authorization", scheme); a.status != want {
				t.Errorf("%.6s…: %d, want %d", scheme, a.status, want)
			}
		}
	})
}

func TestConformanceLists(t *testing.T) {
	t.Parallel()
	p := start(t)
	key := p.application("conf-lists")
	for i := range 5 {
		p.must(t, key, "POST", "/applications/conf-lists/devices", fmt.Sprintf(`{"end_device":{"ids":{"device_id":"dev-%d","dev_eui":"70B3D57ED000000%d","join_eui":"0000000000000000"},"name":"Name %d","description":"text"}}`, i, i, 9-i))
	}
	ids := func(a answer) (out []string) {
		devices, _ := a.json(t)["end_devices"].([]any)
		for _, d := range devices {
			out = append(out, at(d, "ids.device_id").(string))
		}
		return out
	}
	t.Run("pages and total", func(t *testing.T) {
		var all []string
		for page := 1; page <= 3; page++ {
			a := p.must(t, key, "GET", fmt.Sprintf("/applications/conf-lists/devices?limit=2&page=%d&order=device_id", page), "")
			if a.header.Get("X-Total-Count") != "5" {
				t.Errorf("X-Total-Count %q", a.header.Get("X-Total-Count"))
			}
			all = append(all, ids(a)...)
		}
		if got := strings.Join(all, " "); got != "dev-0 dev-1 dev-2 dev-3 dev-4" {
			t.Error(got)
		}
	})
	t.Run("order", func(t *testing.T) {
		for order, want := range map[string]string{"-device_id": "dev-4 dev-3 dev-2 dev-1 dev-0", "name": "dev-4 dev-3 dev-2 dev-1 dev-0", "-created_at": "dev-4 dev-3 dev-2 dev-1 dev-0", "-name": "dev-0 dev-1 dev-2 dev-3 dev-4"} {
			if got := strings.Join(ids(p.must(t, key, "GET", "/applications/conf-lists/devices?order="+order, "")), " "); got != want {
				t.Errorf("%s: %s", order, got)
			}
		}
	})
	t.Run("field mask", func(t *testing.T) {
		members := func(query string) string {
			d := p.must(t, key, "GET", "/applications/conf-lists/devices/dev-1"+query, "").json(t)
			var out []string
			for name := range d {
				out = append(out, name)
			}
			slices.Sort(out)
			return strings.Join(out, " ")
		}
		for query, want := range map[string]string{
			"": "created_at ids updated_at", "?field_mask=name": "created_at ids name updated_at", "?field_mask=name,description": "created_at description ids name updated_at",
			"?field_mask.paths=name": "created_at ids name updated_at",
		} {
			if got := members(query); got != want {
				t.Errorf("%q: %s, want %s", query, got, want)
			}
		}
	})
	t.Run("search", func(t *testing.T) {
		for query, want := range map[string]string{"id_contains=dev-3": "dev-3", "name_contains=Name+9": "dev-0", "dev_eui_contains=D0000002": "dev-2", "query=dev-1": "dev-1"} {
			if got := strings.Join(ids(p.must(t, key, "GET", "/search/applications/conf-lists/devices?"+query, "")), " "); got != want {
				t.Errorf("%s: %s, want %s", query, got, want)
			}
		}
	})
}

func TestConformanceFormatters(t *testing.T) {
	t.Parallel()
	p := start(t)
	c := newClient(t, p, "conf-codec", simulator.MakeIdentity(606, 0, simulator.ABP), 1)
	set := func(up, script string) {
		t.Helper()
		body, err := json.Marshal(object{"link": object{"default_formatters": object{"up_formatter": up, "up_formatter_parameter": script, "down_formatter": up, "down_formatter_parameter": script}}})
		if err != nil {
			t.Fatal(err)
		}
		p.must(t, c.key, "PUT", "/as/applications/"+c.app+"/link", string(body))
	}
	t.Run("JavaScript", func(t *testing.T) {
		set("FORMATTER_JAVASCRIPT", `function decodeUplink(input) { return { data: { sum: input.bytes[0] + input.bytes[1], port: input.fPort, list: [1, undefined] }, warnings: ["low"] }; }`)
		up, raw := c.uplink(simulator.Uplink{FPort: 7, Payload: []byte{20, 3}})
		if fmt.Sprint(at(up, "uplink_message.decoded_payload")) != "map[list:[1 <nil>] port:7 sum:23]" || at(up, "uplink_message.decoded_payload_warnings.0") != "low" {
			t.Error(string(raw.body))
		}
	})
	t.Run("legacy JavaScript", func(t *testing.T) {
		set("FORMATTER_JAVASCRIPT", `function Decoder(bytes, port) { return { first: bytes[0], port: port }; } function Encoder(obj, port) { return [obj.value, port]; }`)
		up, raw := c.uplink(simulator.Uplink{FPort: 8, Payload: []byte{42}})
		if at(up, "uplink_message.decoded_payload.first") != 42.0 || at(up, "uplink_message.decoded_payload.port") != 8.0 {
			t.Error(string(raw.body))
		}
		p.must(t, c.key, "POST", c.devicePath("/down/push"), `{"downlinks":[{"f_port":12,"decoded_payload":{"value":5},"correlation_ids":["encoded"]}]}`)
		if d := c.live.down("queued", "encoded").up.DownlinkQueued; !bytes.Equal(d.FRMPayload, []byte{5, 12}) {
			t.Errorf("%v", d)
		}
	})
	t.Run("errors of the script", func(t *testing.T) {
		set("FORMATTER_JAVASCRIPT", `function decodeUplink(input) { return { errors: ["too short"] }; }`)
		up, raw := c.uplink(simulator.Uplink{FPort: 7, Payload: []byte{20, 3}})
		if at(up, "uplink_message.decoded_payload") != nil || at(up, "uplink_message.frm_payload") != "FAM=" {
			t.Error(string(raw.body))
		}
	})
	t.Run("CayenneLPP", func(t *testing.T) {
		set("FORMATTER_CAYENNELPP", "")
		up, raw := c.uplink(simulator.Uplink{FPort: 2, Payload: []byte{1, 103, 0, 230, 2, 104, 100}})
		if at(up, "uplink_message.decoded_payload.temperature_1") != 23.0 || at(up, "uplink_message.decoded_payload.relative_humidity_2") != 50.0 {
			t.Error(string(raw.body))
		}
	})
	t.Run("none", func(t *testing.T) {
		set("FORMATTER_NONE", "")
		up, raw := c.uplink(simulator.Uplink{FPort: 2, Payload: []byte{1, 103}})
		if at(up, "uplink_message.decoded_payload") != nil {
			t.Error(string(raw.body))
		}
	})
	t.Run("test calls", func(t *testing.T) {
		a := p.must(t, c.key, "POST", c.devicePath("/up/decode"), `{"uplink":{"f_port":1,"frm_payload":"AQ=="},"formatter":"FORMATTER_JAVASCRIPT","parameter":"function decodeUplink(i) { return {data:{v:i.bytes[0]}} }"}`).json(t)
		if at(a, "uplink.decoded_payload.v") != 1.0 {
			t.Error(a)
		}
		a = p.must(t, c.key, "POST", c.devicePath("/down/encode"), `{"downlink":{"f_port":3,"decoded_payload":{"v":9}},"formatter":"FORMATTER_JAVASCRIPT","parameter":"function encodeDownlink(i) { return {bytes:[i.data.v], fPort: 300} }"}`).json(t)
		if at(a, "downlink.frm_payload") != "CQ==" || at(a, "downlink.f_port") != 44.0 {
			t.Error(a)
		}
		if a := p.http(t, c.key, "POST", c.devicePath("/up/decode"), `{"uplink":{"f_port":1,"frm_payload":"AQ=="},"formatter":"FORMATTER_JAVASCRIPT","parameter":"function decodeUplink(i) { throw new Error('no such port') }"}`); a.status != 400 || !strings.Contains(string(a.body), "no such port") {
			t.Errorf("%d %s", a.status, a.body)
		}
	})
}

func TestConformanceEventStream(t *testing.T) {
	t.Parallel()
	p := start(t)
	c := newClient(t, p, "conf-events", simulator.MakeIdentity(607, 0, simulator.ABP), 1)
	for _, accept := range []string{"application/json", "text/event-stream"} {
		t.Run(accept, func(t *testing.T) {
			req, err := http.NewRequest("POST", "http://"+p.rest+"/api/v3/events", strings.NewReader(`{"identifiers":[{"device_ids":{"device_id":"`+c.id.DeviceID+`","application_ids":{"application_id":"`+c.app+`"}}}],"names":["as.up.data.forward"]}`))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Authorization", "Bearer "+c.key)
			req.Header.Set("Accept", accept)
			res, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			if res.StatusCode != 200 {
				b, _ := io.ReadAll(res.Body)
				t.Fatalf("%d %s", res.StatusCode, b)
			}
			lines := make(chan string)
			go func() {
				defer close(lines)
				for s := bufio.NewScanner(res.Body); s.Scan(); {
					lines <- s.Text()
				}
			}()
			_, sent := c.uplink(simulator.Uplink{FPort: 9, Payload: []byte{1, 2, 3}})
			limit := time.After(patience)
			for {
				select {
				case line, open := <-lines:
					if !open {
						t.Fatal("the stream ended")
					}
					line = strings.TrimPrefix(line, "data: ")
					if !strings.Contains(line, `"as.up.data.forward"`) {
						continue
					}
					event := object{}
					if err := json.Unmarshal([]byte(line), &event); err != nil {
						t.Fatal(err)
					}
					if result, ok := event["result"].(object); ok {
						event = result
					}
					if event["name"] != "as.up.data.forward" || at(event, "identifiers.0.device_ids.device_id") != c.id.DeviceID || event["time"] == nil || event["unique_id"] == nil ||
						at(event, "data.uplink_message.frm_payload") != "AQID" || at(event, "data.@type") != "type.googleapis.com/ttn.lorawan.v3.ApplicationUp" {
						t.Errorf("%s for %s", line, sent.body)
					}
					return
				case <-limit:
					t.Fatal("no event")
				}
			}
		})
	}
	if a := p.http(t, c.key, "POST", "/events", `{"identifiers":[{"application_ids":{"application_id":"conf-nobody"}}]}`); a.status != 403 && a.status != 404 {
		t.Errorf("events of another application: %d %s", a.status, a.body)
	}
}
