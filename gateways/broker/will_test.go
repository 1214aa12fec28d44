package broker

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
	"github.com/mochi-mqtt/server/v2/packets"
)

func TestWillIsADownlinkRequestOrNothing(t *testing.T) {
	t.Parallel()
	w := newWorld()
	s := start(t, w.config())
	will := func(topic string) func(*paho.ClientOptions) {
		return func(o *paho.ClientOptions) { o.SetWill(topic, push, 1, true) }
	}
	for _, c := range []struct{ topic, key string }{
		{"v3/app2/devices/dev1/down/push", "all"}, {"v3/app1/devices/dev1/up", "all"}, {"v3/app1/devices/+/down/push", "all"}, {"$SYS/x", "all"},
		{"v3/app1/devices/dev1/down/push", "read"},
	} {
		o := pahoOptions(s, "c", "app1", c.key)
		will(c.topic)(o)
		if err := wait(paho.NewClient(o).Connect()); err == nil {
			t.Errorf("will on %s with key %s is taken", c.topic, c.key)
		}
	}
	watcher := connect(t, s, "watcher", "app1", "all")
	watcher.subscribe(t, "#", 0)
	connect(t, s, "gone", "app1", "all", will("v3/app1/devices/dev1/down/push")).Disconnect(100)
	lost := dial(t, s)
	lost.login(t, 4, "lost", "app1", "write", func(pk *packets.Packet) {
		pk.Connect.WillFlag, pk.Connect.WillTopic, pk.Connect.WillPayload = true, "v3/app1/devices/dev2/down/replace", []byte(push)
	})
	_ = lost.Close()
	if got := w.next(t); got.device.DeviceID != "dev2" || got.verb != "replace" {
		t.Errorf("%+v", got)
	}
	s.Publish(event1(1))
	if m := watcher.next(t); m.payload != `{"n":1}` {
		t.Errorf("subscriber got %+v", m)
	}
	if len(w.commands) != 0 {
		t.Errorf("also %+v", w.next(t))
	}
}

func TestOnlyAPlainGoodByeTakesTheWillBack(t *testing.T) {
	t.Parallel()
	w := newWorld()
	s := start(t, w.config())
	for i, bye := range [][]byte{{0xE0, 0}, {0xE0, 1, 0}, {0xE0, 2, 0, 0}, {0xE0, 1, 4}, {0xE0, 2, 4, 0}, {0xE0, 2, 0x80, 0}} { // [MQTT5-3.14.2.1]
		c := dial(t, s)
		c.login(t, 5, "c", "app1", "all", func(pk *packets.Packet) {
			pk.Connect.WillFlag, pk.Connect.WillTopic, pk.Connect.WillPayload = true, fmt.Sprintf("v3/app1/devices/dev%d/down/push", i), []byte(push)
		})
		c.write(t, bye)
		c.ends(t)
	}
	got := map[string]bool{}
	for range 3 {
		got[w.next(t).device.DeviceID] = true
	}
	if !got["dev3"] || !got["dev4"] || !got["dev5"] || len(w.commands) > 0 {
		t.Errorf("carried out: %v and %d more", got, len(w.commands))
	}
}

func TestWillWaitsForItsDelay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		s, stop := unnetworked(t, w.config())
		defer stop()
		withWill := func(pk *packets.Packet) {
			keepSession(3600)(pk)
			pk.Connect.WillFlag, pk.Connect.WillTopic, pk.Connect.WillPayload = true, "v3/app1/devices/dev1/down/push", []byte(push)
			pk.Connect.WillProperties.WillDelayInterval = 30
		}
		for range 2 { // comes back in time, twice
			c := pipe(t, s)
			c.login(t, 5, "c", "app1", "all", withWill)
			_ = c.Close()
			time.Sleep(20 * time.Second)
		}
		if len(w.commands) != 0 {
			t.Error("the will did not wait")
		}
		time.Sleep(11 * time.Second)
		synctest.Wait()
		if len(w.commands) != 1 {
			t.Errorf("%d wills were carried out", len(w.commands))
		}
	})
}

func TestWillOfARevokedKeyIsNotCarriedOut(t *testing.T) {
	t.Parallel()
	w := newWorld()
	s := start(t, w.config())
	withWill := func(delay uint32) func(*packets.Packet) {
		return func(pk *packets.Packet) {
			keepSession(3600)(pk)
			pk.Connect.WillFlag, pk.Connect.WillTopic, pk.Connect.WillPayload = true, "v3/app1/devices/dev1/down/push", []byte(push)
			pk.Connect.WillProperties.WillDelayInterval = delay
		}
	}
	here, delayed := dial(t, s), dial(t, s)
	here.login(t, 5, "here", "app1", "all", withWill(0))
	delayed.login(t, 5, "delayed", "app1", "all", withWill(3600))
	_ = delayed.Close()
	for s.doorkeeper.total() > 1 {
		time.Sleep(time.Millisecond)
	}
	w.setKey("all", nil)
	s.KeyChanged("id-of-all")
	here.ends(t)
	for s.doorkeeper.total() > 0 {
		time.Sleep(time.Millisecond)
	}
	if len(w.commands) != 0 {
		t.Errorf("carried out: %+v", w.next(t))
	}
}
