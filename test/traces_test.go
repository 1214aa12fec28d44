package test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"lorikeet/cmd/lorikeet/simulator"
	"lorikeet/messages"
)

// These tests follow a device and its application step by step, as a client of The Things Stack sees it.

func (c *client) push(items string) {
	c.radio.t.Helper()
	c.must(c.radio.t, c.key, "POST", c.devicePath("/down/push"), `{"downlinks":[`+items+`]}`)
}

// settled sends an uplink and waits for its event: what is pushed after that is for the next one.
func (c *client) settled() {
	c.radio.t.Helper()
	tx := c.send(simulator.Uplink{FPort: 1, Payload: []byte{1}})
	c.live.uplink(c.id.DeviceID, tx.FCnt)
}

func TestTraceJoinUplinkDownlink(t *testing.T) {
	t.Parallel()
	c := newClient(t, start(t), "trace-join", simulator.MakeIdentity(610, 0, simulator.OTAA), 6)
	c.join()
	first := c.live.wait("join", func(r received) bool { return r.up.JoinAccept != nil })
	c.settled()
	c.push(`{"f_port":15,"frm_payload":"vu8=","priority":"NORMAL","correlation_ids":["kept-over-the-join"]},{"f_port":16,"frm_payload":"AQ==","confirmed":true,"correlation_ids":["kept-too"]}`)
	queued := c.live.down("queued", "kept-over-the-join").up.DownlinkQueued
	if !bytes.Equal(queued.SessionKeyID, first.up.JoinAccept.SessionKeyID) {
		t.Errorf("queued: %+v", queued)
	}
	c.join() // the queue goes on in the new session, under new counters
	second := c.live.wait("second join", func(r received) bool {
		return r.up.JoinAccept != nil && !bytes.Equal(r.up.JoinAccept.SessionKeyID, first.up.JoinAccept.SessionKeyID)
	}).up.JoinAccept
	c.send(simulator.Uplink{FPort: 1, Payload: []byte{1}})
	if down := c.downlink(); down.FPort != 15 || !bytes.Equal(down.Payload, []byte{0xbe, 0xef}) {
		t.Errorf("device got %+v", down)
	}
	sent := c.live.down("sent", "kept-over-the-join").up.DownlinkSent
	if !bytes.Equal(sent.SessionKeyID, second.SessionKeyID) {
		t.Errorf("sent in session %x, want %x", sent.SessionKeyID, second.SessionKeyID)
	}
	c.send(simulator.Uplink{FPort: 1, Payload: []byte{2}})
	down := c.downlink()
	if down.FPort != 16 || !down.Confirmed {
		t.Errorf("device got %+v", down)
	}
	c.live.down("sent", "kept-too")
	c.send(simulator.Uplink{FPort: 1, Payload: []byte{3}})
	ack := c.live.down("ack", "kept-too").up.DownlinkAck
	if uint32(ack.FCnt) != down.FCnt || ack.FCnt <= sent.FCnt {
		t.Errorf("acknowledged %d, the device got %d, sent before %d", ack.FCnt, down.FCnt, sent.FCnt)
	}
	for _, r := range c.live.snapshot() {
		if r.up.DownlinkNack != nil || r.up.DownlinkFailed != nil {
			t.Errorf("unasked: %s", r.body)
		}
	}
}

// deaf sends the uplink of a twin of the device that heard none of its downlinks.
func (c *client) deaf() {
	c.radio.t.Helper()
	c.replays.Store(true)
	twin, err := simulator.NewMAC(simulator.MACConfig{DevEUI: c.id.DevEUI, JoinEUI: c.id.JoinEUI, ABP: c.id.ABP, Region: simulator.EU868, DataRate: -1, State: c.twin})
	if err != nil {
		c.radio.t.Fatal(err)
	}
	tx, err := twin.Uplink(simulator.Uplink{FPort: 1, Payload: []byte{9}})
	if err != nil {
		c.radio.t.Fatal(err)
	}
	c.twin = twin.State()
	c.dev.Replay(tx)
	c.live.uplink(c.id.DeviceID, tx.FCnt)
}

func TestTraceUnacknowledgedDownlink(t *testing.T) {
	t.Parallel()
	c := newClient(t, start(t), "trace-nack", simulator.MakeIdentity(611, 0, simulator.ABP), 6)
	c.settled()
	c.twin = c.dev.State()
	c.push(`{"f_port":7,"frm_payload":"AQ==","confirmed":true,"confirmed_retry":{"max_attempts":2},"correlation_ids":["no-answer"]},{"f_port":8,"frm_payload":"Ag==","correlation_ids":["behind"]}`)
	c.live.down("queued", "behind")
	c.deaf()
	first := c.live.down("sent", "no-answer").up.DownlinkSent
	c.deaf()
	nack := c.live.down("nack", "no-answer").up.DownlinkNack
	if nack.FCnt != first.FCnt || !nack.Confirmed {
		t.Errorf("nack of %+v, sent %+v", nack, first)
	}
	c.live.wait("second transmission", func(r received) bool {
		d := r.up.DownlinkSent
		return d != nil && d.FPort == 7 && d.FCnt > first.FCnt
	})
	c.deaf()
	failed := c.live.down("failed", "no-answer").up.DownlinkFailed
	if failed.Error.Name != "max_retries_reached" {
		t.Errorf("failed with %+v", failed.Error)
	}
	c.live.down("sent", "behind")
}

func TestTraceFailures(t *testing.T) {
	t.Parallel()
	c := newClient(t, start(t), "trace-fail", simulator.MakeIdentity(612, 0, simulator.ABP), 1)
	failure := func(correlation string) string {
		t.Helper()
		return c.live.down("failed", correlation).up.DownlinkFailed.Error.Name
	}
	t.Run("too long", func(t *testing.T) {
		long := strings.Repeat("AQEB", 84) // 252 bytes, more than any data rate of EU868 takes
		a := c.http(t, c.key, "POST", c.devicePath("/down/push"), `{"downlinks":[{"f_port":1,"frm_payload":"`+long+`","correlation_ids":["long"]}]}`)
		if a.status == 200 {
			c.send(simulator.Uplink{FPort: 1, Payload: []byte{1}})
			if name := failure("long"); name != "application_downlink_too_long" {
				t.Error(name)
			}
		} else if a.status != 400 {
			t.Errorf("%d %s", a.status, a.body)
		}
	})
	t.Run("refused by the radio gateway", func(t *testing.T) {
		air := simulator.NewAir(simulator.AirConfig{})
		t.Cleanup(air.Close)
		refusing, err := air.OpenGateway(t.Context(), simulator.GatewayConfig{EUI: messages.EUI64{9, 9, 9, 9, 9, 9, 9, 9}, Server: c.udp, KeepAlive: 100 * time.Millisecond, Lead: time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		if err := refusing.WaitConnected(t.Context()); err != nil {
			t.Fatal(err)
		}
		id := simulator.MakeIdentity(613, 0, simulator.ABP)
		c.device(c.app, id, simulator.EU868)
		dev, err := air.AddDevice(simulator.MACConfig{DevEUI: id.DevEUI, JoinEUI: id.JoinEUI, ABP: id.ABP, Region: simulator.EU868, DataRate: -1}, refusing)
		if err != nil {
			t.Fatal(err)
		}
		path := "/as/applications/" + c.app + "/devices/" + id.DeviceID
		c.must(t, c.key, "POST", path+"/down/push", `{"downlinks":[{"f_port":1,"frm_payload":"AQ==","correlation_ids":["refused-on-air"]}]}`)
		// It is tried again in the next windows before it is given up.
		done := make(chan received, 1)
		go func() { done <- c.live.down("failed", "refused-on-air") }()
		for {
			tx, err := dev.Send(simulator.Uplink{FPort: 1, Payload: []byte{1}})
			if err != nil {
				t.Fatal(err)
			}
			c.live.uplink(id.DeviceID, tx.FCnt)
			select {
			case r := <-done:
				if name := r.up.DownlinkFailed.Error.Name; name == "" {
					t.Errorf("%s", r.body)
				}
				return
			case <-time.After(50 * time.Millisecond):
			}
		}
	})
	t.Run("absolute time has passed", func(t *testing.T) {
		a := c.http(t, c.key, "POST", c.devicePath("/down/push"), `{"downlinks":[{"f_port":1,"frm_payload":"AQ==","class_b_c":{"absolute_time":"2020-01-01T00:00:00Z"},"correlation_ids":["past"]}]}`)
		if a.status == 200 {
			c.send(simulator.Uplink{FPort: 1, Payload: []byte{1}})
			if name := failure("past"); name != "downlink_expired" {
				t.Error(name)
			}
		} else if a.status != 400 {
			t.Errorf("%d %s", a.status, a.body)
		}
	})
	t.Run("time to live", func(t *testing.T) {
		c.push(`{"f_port":1,"frm_payload":"AQ==","time_to_live":"0.001s","correlation_ids":["short-lived"]}`)
		c.send(simulator.Uplink{FPort: 1, Payload: []byte{1}})
		if name := failure("short-lived"); name != "downlink_expired" {
			t.Error(name)
		}
	})
	t.Run("cancelled", func(t *testing.T) {
		c.push(`{"f_port":1,"frm_payload":"AQ==","correlation_ids":["unwanted"]},{"f_port":2,"frm_payload":"AQ==","correlation_ids":["wanted"]}`)
		c.live.down("queued", "wanted")
		list := c.must(t, c.key, "GET", c.devicePath("/down"), "").json(t)
		id, _ := at(list, "downlinks.0.id").(string)
		if id == "" {
			t.Fatalf("no id in %v", list)
		}
		c.must(t, c.key, "DELETE", c.devicePath("/down/"+id), "")
		if name := failure("unwanted"); name != "downlink_cancelled" {
			t.Error(name)
		}
		list = c.must(t, c.key, "GET", c.devicePath("/down"), "").json(t)
		if items, _ := list["downlinks"].([]any); len(items) != 1 || at(list, "downlinks.0.f_port") != 2.0 {
			t.Errorf("%v", list)
		}
		if a := c.http(t, c.key, "DELETE", c.devicePath("/down/"+id), ""); a.status != 404 {
			t.Errorf("cancelled twice: %d %s", a.status, a.body)
		}
	})
}

func TestTraceABP(t *testing.T) {
	t.Parallel()
	p := start(t)
	key := p.application("trace-abp")
	id := simulator.MakeIdentity(614, 0, simulator.ABP)
	eui, join := id.DevEUI.String(), id.JoinEUI.String()
	ids := fmt.Sprintf(`"ids":{"device_id":%q,"dev_eui":%q,"join_eui":%q}`, id.DeviceID, eui, join)
	// The four calls of The Things Stack, each with what its server owns.
	p.must(t, key, "POST", "/applications/trace-abp/devices", `{"end_device":{`+ids+`,"name":"four calls"},"field_mask":{"paths":["name"]}}`)
	p.must(t, key, "PUT", "/ns/applications/trace-abp/devices/"+id.DeviceID, fmt.Sprintf(
		`{"end_device":{%s,"lorawan_version":"MAC_V1_0_3","lorawan_phy_version":"PHY_V1_0_3_REV_A","frequency_plan_id":"EU_863_870_TTN","session":{"dev_addr":%q,"keys":{"f_nwk_s_int_key":{"key":%q}}}},
		"field_mask":{"paths":["lorawan_version","lorawan_phy_version","frequency_plan_id","session.dev_addr","session.keys.f_nwk_s_int_key.key"]}}`, ids, id.ABP.DevAddr, id.ABP.NwkSKey.Hex()))
	p.must(t, key, "PUT", "/as/applications/trace-abp/devices/"+id.DeviceID, fmt.Sprintf(
		`{"end_device":{%s,"session":{"dev_addr":%q,"keys":{"app_s_key":{"key":%q}}}},"field_mask":{"paths":["session.dev_addr","session.keys.app_s_key.key"]}}`, ids, id.ABP.DevAddr, id.ABP.AppSKey.Hex()))
	c := &client{process: p, app: "trace-abp", key: key}
	c.mqtt = mqttLogin(t, p.mqtt, c.app, key, nil)
	c.live = mqttInbox(t, c.mqtt, "v3/+/devices/+/#", 0)
	c.radio = newRadio(t, p, id, simulator.EU868, 2)
	up, raw := c.uplink(simulator.Uplink{FPort: 3, Payload: []byte("abp")})
	if at(up, "uplink_message.frm_payload") != "YWJw" || at(up, "end_device_ids.dev_addr") != id.ABP.DevAddr.String() || at(up, "end_device_ids.dev_eui") != eui {
		t.Error(string(raw.body))
	}
	device := p.must(t, key, "GET", "/as/applications/trace-abp/devices/"+id.DeviceID+"?field_mask=session", "").json(t)
	if at(device, "session.dev_addr") != id.ABP.DevAddr.String() {
		t.Errorf("AS view: %v", device)
	}
	c.push(`{"f_port":4,"frm_payload":"AQ==","correlation_ids":["abp-down"]}`)
	c.send(simulator.Uplink{FPort: 3, Payload: []byte("again")})
	if down := c.downlink(); down.FPort != 4 {
		t.Errorf("device got %+v", down)
	}
	c.live.down("sent", "abp-down")
}

func TestTraceBadDownlinkByMQTT(t *testing.T) {
	t.Parallel()
	c := newClient(t, start(t), "trace-bad", simulator.MakeIdentity(615, 0, simulator.ABP), 1)
	for i, body := range []string{
		`{"downlinks":[{"f_port":1,"frm_payload":"not base64!","correlation_ids":["bad-0"]}]}`,
		`{"downlinks":[{"f_port":224,"frm_payload":"AQ==","correlation_ids":["bad-1"]}]}`,
		`{"downlinks":[{"f_port":1,"frm_payload":"AQ==","priority":"TOP","correlation_ids":["bad-2"]}]}`,
		`{"f_port":1,"frm_payload":"AQ==","correlation_ids":["bad-3"]}`,
		`{"downlinks":[{"f_port":1,"frm_payload":"AQ==","class_b_c":{"gateways":[{"gateway_ids":{"gateway_id":"Upper-Case"}}]},"correlation_ids":["bad-4"]}]}`,
		`{"downlinks":[{"f_port":1,"frm_payload":[1,2],"correlation_ids":["bad-5"]}]}`,
		`{"downlinks":[{"frm_payload":"AQ==","correlation_ids":["bad-6"]}]}`,
		`{"downlinks":[{"f_port":1,"decoded_payload":{"x":1},"correlation_ids":["bad-7"]}]}`,
	} {
		finish(t, c.mqtt.Publish("v3/"+c.app+"/devices/"+c.id.DeviceID+"/down/push", 1, false, body))
		r := c.live.down("failed", fmt.Sprint("bad-", i))
		if e := r.up.DownlinkFailed.Error; e.Name == "" || e.MessageFormat == "" {
			t.Errorf("%s: %s", body, r.body)
		}
	}
	if list := c.must(t, c.key, "GET", c.devicePath("/down"), ""); strings.Contains(string(list.body), "frm_payload") {
		t.Errorf("the queue has %s", list.body)
	}
	finish(t, c.mqtt.Publish("v3/"+c.app+"/devices/"+c.id.DeviceID+"/down/push", 1, false, `{"downlinks":[{"f_port":1,`))
	c.live.wait("failure of what is no JSON", func(r received) bool {
		f := r.up.DownlinkFailed
		return f != nil && len(f.Downlink.CorrelationIDs) == 0
	})
	topic := "v3/" + c.app + "/devices/no-such-device/down/push"
	finish(t, c.mqtt.Publish(topic, 1, false, `{"downlinks":[{"f_port":1,"frm_payload":"AQ==","correlation_ids":["nobody"]}]}`))
	r := c.live.down("failed", "nobody")
	if r.topic != "v3/"+c.app+"/devices/no-such-device/down/failed" {
		t.Errorf("%s %s", r.topic, r.body)
	}
}
