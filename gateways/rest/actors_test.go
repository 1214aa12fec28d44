package rest

import (
	"context"
	"crypto/rand"
	"io"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"lorikeet/actors"
	"lorikeet/actors/device"
	"lorikeet/cluster"
	"lorikeet/messages"
	"lorikeet/persistence/memory"
	"lorikeet/persistence/registry"
)

var (
	_ Registry = (*registry.Registry)(nil)
	_ Devices  = (*actors.Devices)(nil)
)

type randomness struct{}

func (randomness) ULID(time.Time) string { return rand.Text() }
func (randomness) Bytes(n int) []byte {
	b := make([]byte, n)
	_, _ = io.ReadFull(rand.Reader, b)
	return b
}

// deaf transmits nothing.
type deaf struct{}

func (deaf) Transmit(*device.Transmit, func(messages.TxError, bool)) {}

// withActors runs test with a door whose devices are real actors.
func withActors(t *testing.T, test func(t *testing.T, d *door, directory *cluster.Directory)) {
	synctest.Test(t, func(t *testing.T) {
		d := newDoor(t)
		system := actor.NewActorSystem(actor.WithLoggerFactory(func(*actor.ActorSystem) *slog.Logger { return slog.New(slog.DiscardHandler) }))
		directory := cluster.NewDirectory()
		var router *cluster.Local
		cfg := &actors.DeviceConfig{
			Store: memory.New(), Registry: d.registry, Formatters: fakeFormatters{}, Index: directory, Router: func() actors.Router { return router }, Transmitter: deaf{},
			Random: randomness{}, Regions: actors.NewRegions(), Activations: d.registry, CommitTimeout: time.Second, Clock: time.Now, Log: slog.New(slog.DiscardHandler),
			Metrics: actors.NewMetrics(nil),
		}
		router = cluster.StartLocal(cluster.LocalConfig{System: system, Clock: time.Now}, func(id messages.DeviceID) actor.Actor { return actors.NewDevice(cfg, id) })
		devices := actors.NewDevices(cfg, router)
		d.server.cfg.Devices = devices
		unwatch := d.registry.Watch(devices.RegistryChanged)
		d.app("app1")
		test(t, d, directory)
		unwatch()
		if err := router.Stop(context.Background()); err != nil {
			t.Error(err)
		}
		system.Shutdown()
		synctest.Wait()
	})
}

const abpPath = "/applications/app1/devices/abp1"

func (d *door) sessionIs(addr, nwk, app string) {
	d.Helper()
	d.do("GET", "/ns"+abpPath+"?field_mask=session", nil).is(200).has("session.dev_addr", `"`+addr+`"`).
		has("session.keys.f_nwk_s_int_key.key", `"`+nwk+`"`).has("session.keys.app_s_key.key", `"`+app+`"`)
}

func TestFourWritesActivateARealABPDevice(t *testing.T) {
	withActors(t, func(t *testing.T, d *door, directory *cluster.Directory) {
		id := messages.DeviceID{ApplicationID: "app1", DeviceID: "abp1"}
		d.do("POST", "/applications/app1/devices", `{"end_device":{"ids":{"device_id":"abp1"}}}`).is(200)
		d.do("GET", "/applications/app1/devices/abp1?field_mask=session", nil).is(200).has("session", "")
		d.do("PUT", "/ns"+abpPath, `{"end_device":{"ids":{"device_id":"abp1"},`+nsSettings+`,"supports_join":false,"session":`+sessionOf("26010203", nwkSKey, "")+`},
			"field_mask":{"paths":["session.dev_addr","session.keys.f_nwk_s_int_key.key","lorawan_version","lorawan_phy_version","frequency_plan_id","supports_join"]}}`).is(200).
			has("session.dev_addr", `"26010203"`)
		d.do("PUT", "/as"+abpPath, `{"end_device":{"ids":{"device_id":"abp1"},"session":`+sessionOf("26010203", "", appSKey)+`},"field_mask":{"paths":["session.dev_addr","session.keys.app_s_key.key","formatters"]}}`).is(200)
		d.sessionIs("26010203", nwkSKey, appSKey)
		if !directory.Has(id) {
			t.Error("the directory does not know the device")
		}
		// Another activation, NS first, then AS; and another one the other way round.
		d.do("PUT", "/ns"+abpPath, `{"end_device":{"session":`+sessionOf("26010204", otherNwkSKey, "")+`}}`).is(200)
		d.do("PUT", "/as"+abpPath, `{"end_device":{"session":`+sessionOf("26010204", "", otherAppSKey)+`}}`).is(200)
		d.sessionIs("26010204", otherNwkSKey, otherAppSKey)
		d.do("PUT", "/as"+abpPath, `{"end_device":{"session":`+sessionOf("26010203", "", appSKey)+`}}`).is(200)
		d.do("PUT", "/ns"+abpPath, `{"end_device":{"session":`+sessionOf("26010203", nwkSKey, "")+`}}`).is(200)
		d.sessionIs("26010203", nwkSKey, appSKey)
		// One key alone, as when a typing mistake is corrected: the other one stays, and so do the counters.
		d.do("PUT", "/ns"+abpPath, `{"end_device":{"session":{"last_f_cnt_up":17,"last_n_f_cnt_down":5}}}`).is(200)
		d.do("PUT", "/as"+abpPath, `{"end_device":{"session":{"keys":{"app_s_key":{"key":"`+otherAppSKey+`"}}}},"field_mask":{"paths":["session.keys.app_s_key.key"]}}`).is(200)
		d.sessionIs("26010203", nwkSKey, otherAppSKey)
		d.do("GET", "/ns"+abpPath+"?field_mask=session", nil).has("session.last_f_cnt_up", "17").has("session.last_n_f_cnt_down", "5")
		// The device is read and written back as it is.
		got := d.do("GET", "/ns"+abpPath+"?field_mask=*", nil).is(200)
		d.do("PUT", "/ns"+abpPath, `{"end_device":`+got.Body+`}`).is(200)
		d.sessionIs("26010203", nwkSKey, otherAppSKey)

		d.do("POST", "/as"+abpPath+"/down/push", `{"downlinks":[{"f_port":1,"frm_payload":"AQI="}]}`).is(200)
		d.do("GET", "/as"+abpPath+"/down", nil).is(200)
		d.do("DELETE", "/ns"+abpPath, nil).is(200)
		if directory.Has(id) {
			t.Error("the directory knows a device without a session")
		}
		d.do("GET", abpPath+"?field_mask=session", nil).is(200).has("session", "")
		d.do("DELETE", abpPath, nil).is(200)
		d.do("GET", abpPath, nil).fails(404, "end_device_not_found")
	})
}

func TestARealDeviceIsCreatedAndDeletedWhole(t *testing.T) {
	withActors(t, func(t *testing.T, d *door, directory *cluster.Directory) {
		for range 2 {
			d.do("POST", "/applications/app1/devices", abp).is(200)
			d.do("POST", "/applications/app1/devices", otaa).is(200)
			d.sessionIs("26010203", nwkSKey, appSKey)
			d.do("PATCH", "/ns/applications/app1/devices/dev1", `{}`).is(200)
			if got := d.do("POST", "/applications/app1/devices", strings.Replace(abp, "abp1", "abp2", 1)).is(200); strings.Contains(got.Body, `"queued`) {
				t.Error(got.Body)
			}
			if directory.Len() != 2 {
				t.Errorf("%d devices in the directory", directory.Len())
			}
			d.do("DELETE", abpPath, nil).is(200)
			d.do("DELETE", "/applications/app1", nil).is(200)
			if directory.Len() != 0 {
				t.Errorf("%d devices in the directory", directory.Len())
			}
			d.app("app1")
		}
		_, err := d.server.cfg.Devices.DeviceState(t.Context(), messages.DeviceID{ApplicationID: "app1", DeviceID: "abp2"})
		if messages.CodeOf(err) != messages.CodeNotFound {
			t.Errorf("state of a deleted device: %v", err)
		}
	})
}
