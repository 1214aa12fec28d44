package test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"lorikeet/cmd/lorikeet/simulator"
)

// inputs are downlink requests that The Things Stack reads in its own way. What strict gives is an error, except where both modes take the same.
var inputs = map[string]struct {
	body    string // %s is the correlation id
	strict  bool   // taken in strict mode too
	lenient string // what the queue shows of the item then, as "member=value"; "": nothing is queued
}{
	"as documented":            {`{"downlinks":[{"f_port":1,"frm_payload":"vu8=","priority":"HIGH","correlation_ids":["%s"]}]}`, true, "frm_payload=vu8= priority=HIGH"},
	"camelCase":                {`{"downlinks":[{"fPort":1,"frmPayload":"vu8=","correlationIds":["%s"]}]}`, true, "f_port=1 frm_payload=vu8="},
	"numbers as strings":       {`{"downlinks":[{"f_port":"1","frm_payload":"vu8=","correlation_ids":["%s"]}]}`, true, "f_port=1"},
	"base64 for URLs":          {`{"downlinks":[{"f_port":1,"frm_payload":"_-8","correlation_ids":["%s"]}]}`, true, "frm_payload=/+8="},
	"enum by number":           {`{"downlinks":[{"f_port":1,"frm_payload":"vu8=","priority":3,"correlation_ids":["%s"]}]}`, true, "priority=NORMAL"},
	"unknown member":           {`{"downlinks":[{"f_port":1,"frm_payload":"vu8=","new":1,"correlation_ids":["%s"]}]}`, true, "frm_payload=vu8="},
	"unknown enum name":        {`{"downlinks":[{"f_port":1,"frm_payload":"vu8=","priority":"TOP","correlation_ids":["%s"]}]}`, false, "frm_payload=vu8="},
	"enum name in lower case":  {`{"downlinks":[{"f_port":1,"frm_payload":"vu8=","priority":"high","correlation_ids":["%s"]}]}`, false, "frm_payload=vu8="},
	"hex in place of base64":   {`{"downlinks":[{"f_port":1,"frm_payload":"beef","correlation_ids":["%s"]}]}`, false, "frm_payload=beef"},
	"without downlinks":        {`{"f_port":1,"frm_payload":"vu8=","correlation_ids":["%s"]}`, false, ""},
	"array in place of base64": {`{"downlinks":[{"f_port":1,"frm_payload":[190,239],"correlation_ids":["%s"]}]}`, false, "refused"},
	"wrong type":               {`{"downlinks":[{"f_port":{"x":1},"frm_payload":"vu8=","correlation_ids":["%s"]}]}`, false, "refused"},
}

func TestInputStrictAndLenient(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"strict", "lenient"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			var env []string
			if mode == "lenient" { // strict is the default
				env = append(env, "LORIKEET_API_INPUT=lenient")
			}
			p := start(t, env...)
			app := "input-" + mode
			key := p.application(app)
			id := simulator.MakeIdentity(620, 0, simulator.ABP)
			p.device(app, id, simulator.EU868)
			path := "/as/applications/" + app + "/devices/" + id.DeviceID + "/down"
			m := mqttLogin(t, p.mqtt, app, key, nil)
			live := mqttInbox(t, m, "#", 0)
			n := 0
			for what, in := range inputs {
				n++
				correlation := fmt.Sprint("input-", n)
				body := in.body
				if strings.Contains(body, "%s") {
					body = fmt.Sprintf(body, correlation)
				}
				p.must(t, key, "POST", path+"/replace", `{"downlinks":[]}`)
				a := p.http(t, key, "POST", path+"/push", body)
				refused := in.lenient == "refused" || mode == "strict" && !in.strict
				if (a.status == 400) != refused || a.status != 400 && a.status != 200 {
					t.Errorf("%s by REST: %d %s", what, a.status, a.body)
				}
				if refused {
					if message, _ := a.json(t)["message"].(string); len(message) < 40 {
						t.Errorf("%s: the message %q does not help", what, message)
					}
				} else {
					checkQueue(t, what, p.must(t, key, "GET", path, "").json(t), in.lenient)
				}
				p.must(t, key, "POST", path+"/replace", `{"downlinks":[]}`)
				finish(t, m.Publish("v3/"+app+"/devices/"+id.DeviceID+"/down/push", 1, false, strings.ReplaceAll(body, correlation, correlation+"-mqtt")))
				switch {
				case refused:
					live.down("failed", correlation+"-mqtt")
				case in.lenient != "":
					live.down("queued", correlation+"-mqtt")
					checkQueue(t, what+" by MQTT", p.must(t, key, "GET", path, "").json(t), in.lenient)
				}
			}
		})
	}
}

// checkQueue compares the one item of a queue.
func checkQueue(t *testing.T, what string, list object, want string) {
	t.Helper()
	items, _ := list["downlinks"].([]any)
	if want == "" {
		if len(items) != 0 {
			t.Errorf("%s: the queue has %v", what, items)
		}
		return
	}
	if len(items) != 1 {
		t.Errorf("%s: the queue has %v", what, items)
		return
	}
	for _, pair := range strings.Fields(want) {
		name, value, _ := strings.Cut(pair, "=")
		if got := fmt.Sprint(items[0].(object)[name]); got != value {
			t.Errorf("%s: %s is %s, want %s", what, name, got, value)
		}
	}
}

func TestInputWrongIDs(t *testing.T) {
	t.Parallel()
	p := start(t)
	key := p.application("input-ids")
	for _, id := range []string{"Upper", "ab", "-dash", "dash-", "a--b", "under_score", "dot.dot", "sp ace", "ä-umlaut", strings.Repeat("a", 37), "a/b", ""} {
		body, err := json.Marshal(object{"end_device": object{"ids": object{"device_id": id, "dev_eui": "70B3D57ED0000001", "join_eui": "0000000000000000"}}})
		if err != nil {
			t.Fatal(err)
		}
		if a := p.http(t, key, "POST", "/applications/input-ids/devices", string(body)); a.status != 400 {
			t.Errorf("device %q: %d %s", id, a.status, a.body)
		}
		body, err = json.Marshal(object{"application": object{"ids": object{"application_id": id}}})
		if err != nil {
			t.Fatal(err)
		}
		if a := p.http(t, adminKey, "POST", "/users/admin/applications", string(body)); a.status != 400 {
			t.Errorf("application %q: %d %s", id, a.status, a.body)
		}
	}
	for _, eui := range []string{"70B3D57ED000000", "70B3D57ED00000011", "70B3D57ED000000G", "cLPVftAAAAE="} {
		if a := p.http(t, key, "POST", "/applications/input-ids/devices", `{"end_device":{"ids":{"device_id":"dev-eui","dev_eui":"`+eui+`"}}}`); a.status != 400 {
			t.Errorf("DevEUI %s: %d %s", eui, a.status, a.body)
		}
	}
	if a := p.http(t, key, "POST", "/applications/input-ids/devices", `{"end_device":{"ids":{"device_id":"dev-low","dev_eui":"70b3d57ed00000aa","join_eui":"0000000000000000"}}}`); a.status != 200 || at(a.json(t), "ids.dev_eui") != "70B3D57ED00000AA" {
		t.Errorf("hex in lower case: %d %s", a.status, a.body)
	}
}
