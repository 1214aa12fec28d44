package broker

import (
	"context"
	"errors"
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"lorikeet/messages"
)

func TestForeignPublishIsRefusedAndCounted(t *testing.T) {
	t.Parallel()
	w := newWorld()
	s := start(t, w.config())
	topics := []string{
		"v3/app2/devices/dev1/down/push", "v3/app1@ttn/devices/dev1/down/push", "v3/app1/devices/dev1/up", "v3/app1/devices/dev1/down/queued",
		"v3/app1/devices/DEV/down/push", "v3/app1/devices//down/push", "v3/app1/devices/dev1/down/push/x", "$SYS/broker/uptime", "$share/x/y", "x", "/", "v3/app1/devices/+/down/push", "v3/app1/devices/dev1/down/#",
	}
	for _, version := range []byte{4, 5} {
		c := dial(t, s)
		c.login(t, version, "c", "app1", "all")
		c.subscribe(t, "#", 0)
		for i, topic := range topics {
			for qos := range byte(3) {
				id := uint16(0)
				if qos > 0 {
					id = uint16(2*i) + uint16(qos)
				}
				c.send(t, publishPacket(topic, push, qos, id))
				failed := c.expect(t, packets.Publish)
				if text := string(failed.Payload); !strings.HasSuffix(failed.TopicName, "/down/failed") || !strings.Contains(text, `"topic_not_allowed"`) || !strings.Contains(text, `"correlation_ids":["mine"]`) {
					t.Errorf("%s: answered on %s with %s", topic, failed.TopicName, text)
				}
				if qos == 0 {
					continue
				}
				want := byte(0)
				if version == 5 {
					want = packets.ErrNotAuthorized.Code
				}
				kind := packets.Puback
				if qos == 2 {
					kind = packets.Pubrec
				}
				if ack := c.expect(t, kind); ack.ReasonCode != want || ack.PacketID != id {
					t.Errorf("version %d, %s, QoS %d: answer to %d: %#x", version, topic, qos, ack.PacketID, ack.ReasonCode)
				}
			}
		}
		c.send(t, packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Pingreq}})
		c.expect(t, packets.Pingresp)
	}
	if n := int(testutil.ToFloat64(s.metrics.publishes.WithLabelValues("topic_not_allowed"))); n != 6*len(topics) {
		t.Errorf("%d counted, want %d", n, 6*len(topics))
	}
	if len(w.commands) != 0 {
		t.Errorf("carried out: %+v", w.next(t))
	}
}

func TestRefusalOfMQTT5SaysWhy(t *testing.T) {
	t.Parallel()
	w := newWorld()
	s := start(t, w.config())
	c := dial(t, s)
	c.login(t, 5, "c", "app1", "all")
	for i, r := range []struct {
		body   string
		err    error
		reason byte
		text   string
	}{
		{`{`, nil, packets.ErrPayloadFormatInvalid.Code, "JSON"},
		{`{"downlinks":[{"f_port":224}]}`, nil, packets.ErrPayloadFormatInvalid.Code, "use 1 to 223"},
		{push, messages.NotFound("device_not_found", "no such device"), packets.ErrImplementationSpecificError.Code, "no such device"},
		{push, messages.Errorf(messages.CodeExhausted, "queue_full", "queue is full"), packets.ErrQuotaExceeded.Code, "queue is full"},
	} {
		for qos := byte(1); qos <= 2; qos++ {
			if r.err != nil {
				w.mu.Lock()
				w.errs = []error{r.err}
				w.mu.Unlock()
			}
			pk := publishPacket("v3/app1/devices/dev1/down/push", r.body, qos, uint16(10*i)+uint16(qos))
			pk.Properties.User = []packets.UserProperty{{Key: "mine", Val: "mine"}}
			c.send(t, pk)
			kind := packets.Puback
			if qos == 2 {
				kind = packets.Pubrec
			}
			ack := c.expect(t, kind)
			if ack.ReasonCode != r.reason || !strings.Contains(ack.Properties.ReasonString, r.text) {
				t.Errorf("%s: %#x %q", r.body, ack.ReasonCode, ack.Properties.ReasonString)
			}
			if got := w.next(t); got.verb != "fail" {
				t.Errorf("%+v", got)
			}
		}
	}
}

func TestKeyWithoutTheRightSendsNoDownlinks(t *testing.T) {
	t.Parallel()
	w := newWorld()
	s := start(t, w.config())
	c := dial(t, s)
	c.login(t, 5, "c", "app1", "read")
	c.send(t, publishPacket("v3/app1/devices/dev1/down/push", push, 1, 1))
	ack := c.expect(t, packets.Puback)
	if ack.ReasonCode != packets.ErrNotAuthorized.Code || !strings.Contains(ack.Properties.ReasonString, "RIGHT_APPLICATION_TRAFFIC_DOWN_WRITE") {
		t.Errorf("PUBACK %#x %q", ack.ReasonCode, ack.Properties.ReasonString)
	}
	if len(w.commands) != 0 {
		t.Errorf("carried out: %+v", w.next(t))
	}
}

func TestUnavailableServerAcknowledgesNothing(t *testing.T) {
	t.Parallel()
	for name, failure := range map[string]error{"unavailable": messages.Errorf(messages.CodeUnavailable, "disk_full", "disk is full"), "internal": errors.New("broken"), "slow": nil} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld()
			s, stop := unnetworked(t, w.config())
			defer stop()
			w.block = make(chan struct{})
			if failure != nil {
				close(w.block)
				for range 100 {
					w.errs = append(w.errs, failure)
				}
			}
			for qos := range byte(3) {
				c := pipe(t, s)
				c.login(t, 5, "c", "app1", "all")
				began := time.Now()
				id := uint16(0)
				if qos > 0 {
					id = 1
				}
				c.send(t, publishPacket("v3/app1/devices/dev1/down/push", push, qos, id))
				pk, err := c.read()
				if err != nil || pk.FixedHeader.Type != packets.Disconnect || pk.ReasonCode != reasonServerBusy {
					t.Errorf("%s, QoS %d: got type %d, reason %#x, error %v", name, qos, pk.FixedHeader.Type, pk.ReasonCode, err)
				}
				c.ends(t)
				if took := time.Since(began); took > 6*time.Second {
					t.Errorf("%s: took %v", name, took)
				}
				synctest.Wait()
			}
			if len(w.commands) != 0 {
				t.Errorf("%s: also %+v", name, w.next(t))
			}
		})
	}
}

func TestWaitingCommandHoldsUpNobodyElse(t *testing.T) {
	t.Parallel()
	w := newWorld()
	s := start(t, w.config())
	w.block = make(chan struct{})
	waiting := dial(t, s)
	waiting.login(t, 5, "waiting", "app1", "all")
	waiting.subscribe(t, "v3/+/devices/dev1/#", 1)
	waiting.send(t, publishPacket("v3/app1/devices/dev1/down/push", push, 1, 1))
	s.Publish(event1(1))
	waiting.expect(t, packets.Publish) // even it gets its events
	serves(t, s)
	close(w.block)
	waiting.expect(t, packets.Puback)
}

func TestCloseDoesNotWaitForACommandForEver(t *testing.T) {
	t.Parallel()
	w := newWorld()
	s, err := Open(w.config())
	if err != nil {
		t.Fatal(err)
	}
	w.block = make(chan struct{})
	c := dial(t, s)
	c.login(t, 5, "c", "app1", "all")
	c.send(t, publishPacket("v3/app1/devices/dev1/down/push", push, 1, 1))
	c.send(t, packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Pingreq}})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_ = s.Close(ctx)
	for { // no PUBACK for what did not happen
		pk, err := c.read()
		if err != nil {
			break
		}
		if pk.FixedHeader.Type == packets.Puback {
			t.Errorf("PUBACK %#x", pk.ReasonCode)
		}
	}
}

func TestNothingIsRetained(t *testing.T) {
	t.Parallel()
	w := newWorld()
	s := start(t, w.config())
	c := dial(t, s)
	if ack := c.login(t, 5, "c", "app1", "all"); !ack.Properties.RetainAvailableFlag || ack.Properties.RetainAvailable != 0 {
		t.Error("CONNACK offers to retain messages")
	}
	pk := publishPacket("v3/app1/devices/dev1/down/push", push, 1, 1)
	pk.FixedHeader.Retain = true
	c.send(t, pk)
	if ack := c.expect(t, packets.Puback); ack.ReasonCode != 0 {
		t.Errorf("PUBACK %#x", ack.ReasonCode)
	}
	w.next(t)
	c.subscribe(t, "#", 1)
	s.Publish(event1(1))
	if pk := c.expect(t, packets.Publish); string(pk.Payload) != `{"n":1}` || pk.FixedHeader.Retain {
		t.Errorf("%s, retain %v", pk.Payload, pk.FixedHeader.Retain)
	}
}

func TestRefusalNamesTheDeviceOfTheTopic(t *testing.T) {
	t.Parallel()
	w := newWorld()
	s := start(t, w.config())
	c, other := dial(t, s), dial(t, s)
	c.login(t, 4, "c", "app1@ttn", "all")
	other.login(t, 4, "other", "app1", "all")
	c.subscribe(t, "v3/+/devices/+/down/failed", 0)
	other.subscribe(t, "#", 0)
	c.send(t, publishPacket("v3/app1@ttn/devices/dev1/down/pusch", push, 1, 1))
	failed := c.expect(t, packets.Publish)
	if want := `"device_id":"dev1"`; failed.TopicName != "v3/app1@ttn/devices/dev1/down/failed" || !strings.Contains(string(failed.Payload), want) {
		t.Errorf("%s: %s", failed.TopicName, failed.Payload)
	}
	c.expect(t, packets.Puback)
	other.send(t, packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Pingreq}})
	other.expect(t, packets.Pingresp) // the mistake is shown to its author only
}

func TestDownlinkForAnUnknownDeviceIsAnswered(t *testing.T) {
	t.Parallel()
	w := newWorld()
	w.unknown = true
	s := start(t, w.config())
	c := dial(t, s)
	c.login(t, 5, "c", "app1", "all")
	c.subscribe(t, "#", 1)
	for body, want := range map[string]string{push: `"device_not_found"`, `{"downlinks":[{"f_port":224,"correlation_ids":["mine"]}]}`: "224", `{"downlinks":[{"f_port":1,"frm_payload":"?","correlation_ids":["mine"]}]}`: "base64"} {
		w.mu.Lock()
		w.errs = []error{messages.NotFound("device_not_found", "no such device")}
		w.mu.Unlock()
		c.send(t, publishPacket("v3/app1/devices/dev9/down/push", body, 1, 1))
		failed := c.expect(t, packets.Publish)
		text := string(failed.Payload)
		if failed.TopicName != "v3/app1/devices/dev9/down/failed" || !strings.Contains(text, want) || !strings.Contains(text, `"mine"`) || !strings.Contains(text, `"downlink_failed"`) {
			t.Errorf("%s: answered on %s with %s", body, failed.TopicName, text)
		}
		if ack := c.expect(t, packets.Puback); ack.ReasonCode < 0x80 {
			t.Errorf("PUBACK %#x", ack.ReasonCode)
		}
	}
}

func TestResultComesOnTheResponseTopic(t *testing.T) {
	t.Parallel()
	w := newWorld()
	s := start(t, w.config())
	c := dial(t, s)
	c.login(t, 5, "c", "app1@ttn", "all")
	c.subscribe(t, "v3/app1@ttn/answers/#", 1)
	old := dial(t, s)
	old.login(t, 4, "old", "app1", "all")
	old.subscribe(t, "v3/app1/answers/+", 0)
	ask := func(verb, body, topic string) packets.Packet {
		pk := publishPacket("v3/app1@ttn/devices/dev1/down/"+verb, body, 1, 1)
		pk.Properties.ResponseTopic, pk.Properties.CorrelationData = topic, []byte{0, 1, 2}
		return pk
	}
	c.send(t, ask("push", push, "v3/app1@ttn/answers/1"))
	answer := c.expect(t, packets.Publish)
	if answer.TopicName != "v3/app1@ttn/answers/1" || string(answer.Payload) != `{"code":0,"downlinks":[{"id":"1"}]}` || string(answer.Properties.CorrelationData) != "\x00\x01\x02" {
		t.Errorf("%s %s %x", answer.TopicName, answer.Payload, answer.Properties.CorrelationData)
	}
	c.expect(t, packets.Puback)
	if answer := old.expect(t, packets.Publish); answer.TopicName != "v3/app1/answers/1" || string(answer.Payload) != `{"code":0,"downlinks":[{"id":"1"}]}` {
		t.Errorf("a client of 3.1.1 got %s %s", answer.TopicName, answer.Payload)
	}
	c.send(t, ask("replace", `{}`, "v3/app1@ttn/answers/2"))
	answer = c.expect(t, packets.Publish)
	if !strings.Contains(string(answer.Payload), `"code":3`) || !strings.Contains(string(answer.Payload), "no_downlinks") {
		t.Errorf("%s", answer.Payload)
	}
	c.expect(t, packets.Puback)
	for len(w.commands) > 0 {
		w.next(t)
	}
	for _, topic := range []string{
		"v3/app1/answers/1", "v3/app2@ttn/x", "x", "$SYS/x", "v3/app1@ttn/", "v3/app1@ttn/devices/dev1/up", "v3/app1@ttn/devices/dev1/down/push", "v3/app1@ttn/devices/dev1/location/solved",
	} {
		c.send(t, ask("push", push, topic))
		if ack := c.expect(t, packets.Puback); ack.ReasonCode != packets.ErrNotAuthorized.Code {
			t.Errorf("%s: PUBACK %#x", topic, ack.ReasonCode)
		}
	}
	if len(w.commands) > 0 {
		t.Errorf("carried out: %+v", w.next(t))
	}
}

func TestTopicThatIsTooLongForAnotherClientIsNotSentToIt(t *testing.T) {
	t.Parallel()
	w := newWorld()
	s := start(t, w.config())
	c, other := dial(t, s), dial(t, s)
	c.login(t, 5, "c", "app1", "all")
	other.login(t, 4, "other", "app1@a-long-tenant", "all")
	c.subscribe(t, "#", 0)
	other.subscribe(t, "#", 0)
	longest := "v3/app1/" + strings.Repeat("x", math.MaxUint16-len("v3/app1/"))
	ask := publishPacket("v3/app1/devices/dev1/down/push", push, 1, 1)
	ask.Properties.ResponseTopic = longest
	c.send(t, ask)
	if answer := c.expect(t, packets.Publish); answer.TopicName != longest {
		t.Errorf("a topic of %d bytes", len(answer.TopicName))
	}
	c.expect(t, packets.Puback)
	c.send(t, publishPacket("v3/app1/devices/"+strings.Repeat("x", math.MaxUint16-len("v3/app1/devices/")), push, 1, 2)) // refused, on a topic that would be longer
	c.expect(t, packets.Puback)
	other.send(t, packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Pingreq}})
	other.expect(t, packets.Pingresp)
	if n := testutil.ToFloat64(s.metrics.dropped.WithLabelValues("topic_too_long")); n != 2 {
		t.Errorf("%v messages are counted", n)
	}
}

func TestKeyThatMayNotReadHasNoResponse(t *testing.T) {
	t.Parallel()
	w := newWorld()
	s := start(t, w.config())
	c := dial(t, s)
	c.login(t, 5, "c", "app1", "write")
	pk := publishPacket("v3/app1/devices/dev1/down/push", push, 1, 1)
	pk.Properties.ResponseTopic = "v3/app1/answers/1"
	c.send(t, pk)
	if ack := c.expect(t, packets.Puback); ack.ReasonCode != packets.ErrNotAuthorized.Code {
		t.Errorf("PUBACK %#x", ack.ReasonCode)
	}
}

func TestExpiredDownlinkIsNotCarriedOut(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.block = make(chan struct{}) // the server can't carry out anything
		s, stop := unnetworked(t, w.config())
		defer stop()
		c := pipe(t, s)
		c.login(t, 5, "c", "app1", "all")
		pk := publishPacket("v3/app1/devices/dev1/down/push", push, 1, 1)
		pk.Properties.MessageExpiryInterval = 2
		began := time.Now()
		c.send(t, pk)
		ack := c.expect(t, packets.Puback)
		if ack.ReasonCode < 0x80 || !strings.Contains(ack.Properties.ReasonString, "expired") || time.Since(began) != 2*time.Second {
			t.Errorf("PUBACK %#x %q after %v", ack.ReasonCode, ack.Properties.ReasonString, time.Since(began))
		}
		if got := w.next(t); got.verb != "fail" || got.items[0].CorrelationIDs[0] != "mine" {
			t.Errorf("%+v", got)
		}
	})
}
