package registry

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"lorikeet/messages"
	v3 "lorikeet/messages/v3"
	"lorikeet/persistence/memory"
)

var noon = time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)

func open(t testing.TB, store Store, change ...func(*Config)) *Registry {
	t.Helper()
	cfg := Config{Clock: func() time.Time { return noon }}
	for _, c := range change {
		c(&cfg)
	}
	r, err := Open(t.Context(), store, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// withApplication is a registry with an application "my-app".
func withApplication(t testing.TB, change ...func(*Config)) (*Registry, *memory.Store) {
	t.Helper()
	store := memory.New()
	r := open(t, store, change...)
	must(t)(r.CreateApplication(t.Context(), newApplication("my-app")))
	return r, store
}

// must gives a function that fails the test for an error.
func must(t testing.TB) func(any, error) {
	return func(_ any, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
}

func wantError(t testing.TB, err error, name string) {
	t.Helper()
	var e *messages.Error
	if !errors.As(err, &e) || e.Name != name {
		t.Errorf("got %v, want %s", err, name)
	}
}

func newApplication(id string) v3.Application {
	var a v3.Application
	a.IDs.ApplicationID = id
	return a
}

func eui(n uint64) *messages.EUI64 {
	var e messages.EUI64
	for i := range e {
		e[i] = byte(n >> (8 * (7 - i)))
	}
	return &e
}

// newDevice n of an application; it joins with JoinEUI 1 and DevEUI n.
func newDevice(app, id string, n uint64) v3.EndDevice {
	var d v3.EndDevice
	d.IDs.ApplicationIDs.ApplicationID, d.IDs.DeviceID = app, id
	d.IDs.JoinEUI, d.IDs.DevEUI = eui(1), eui(n)
	d.SupportsJoin, d.LoRaWANVersion, d.LoRaWANPHYVersion, d.FrequencyPlanID = true, "MAC_V1_0_3", "PHY_V1_0_3_REV_A", "EU_863_870_TTN"
	return d
}

func newGateway(id string, n uint64) v3.Gateway {
	var g v3.Gateway
	g.IDs.GatewayID, g.IDs.EUI = id, eui(n)
	return g
}

func devID(app, id string) messages.DeviceID {
	return messages.DeviceID{ApplicationID: app, DeviceID: id}
}

// snapshot is all that a registry holds in memory.
func (r *Registry) snapshot() map[string]string {
	r.index.mutex.RLock()
	defer r.index.mutex.RUnlock()
	out := map[string]string{"seen": fmt.Sprint(r.index.seen)}
	for id := range r.index.applications {
		out["app "+id] = ""
	}
	for p, uid := range r.index.devices {
		out["pair "+p.id()] = uid
	}
	for e, g := range r.index.gateways {
		out["gateway "+e.String()] = fmt.Sprint(g.id, g.location, g.seen)
	}
	for id, k := range r.index.keys {
		out["key "+id] = fmt.Sprint(k.ApplicationID, k.Rights, k.Hash)
	}
	return out
}

// checkMemory compares what r holds in memory with what a registry would hold that is opened now.
func checkMemory(t testing.TB, r *Registry, store Store) {
	t.Helper()
	fresh := open(t, store)
	defer fresh.Close()
	if diff := cmp.Diff(fresh.snapshot(), r.snapshot()); diff != "" {
		t.Errorf("memory is not what is stored (-stored +memory):\n%s", diff)
	}
}

// stored lists what is in the store, without what the server keeps for itself.
func stored(t testing.TB, store Store) []string {
	t.Helper()
	var out []string
	for _, kind := range []messages.Kind{messages.KindApplication, messages.KindDevice, messages.KindDeviceEUI, messages.KindLink, messages.KindWebhook, messages.KindPubSub,
		messages.KindAPIKey, messages.KindRadioGateway, messages.KindGatewayEUI} {
		if err := store.ScanDocuments(t.Context(), kind, func(d messages.Document) error {
			out = append(out, string(kind)+" "+d.ID)
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	slices.Sort(out)
	return out
}

// recorded gives the changes that a registry announces.
func recorded(r *Registry) *[]messages.Change {
	var all []messages.Change
	r.Watch(func(c messages.Change) { all = append(all, c) })
	return &all
}
