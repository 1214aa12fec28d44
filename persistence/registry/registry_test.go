package registry

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"lorikeet/messages"
	v3 "lorikeet/messages/v3"
)

func TestEntitiesAreStoredAndReadBackAfterARestart(t *testing.T) {
	ctx := t.Context()
	r, store := withApplication(t)
	created, err := r.CreateDevice(ctx, newDevice("my-app", "dev-1", 7))
	if err != nil || created.CreatedAt == nil || !created.CreatedAt.Equal(noon) || !created.UpdatedAt.Equal(noon) {
		t.Fatalf("got %+v, %v", created, err)
	}
	updated, err := r.UpdateDevice(ctx, devID("my-app", "dev-1"), func(d *v3.EndDevice) error { d.Name = "name"; d.CreatedAt = nil; return nil })
	if err != nil || updated.Name != "name" || !updated.CreatedAt.Equal(noon) {
		t.Fatalf("got %+v, %v", updated, err)
	}
	must(t)(r.CreateGateway(ctx, newGateway("my-gateway", 9)))
	must(t)(r.SetWebhook(ctx, "my-app", "my-hook", func(w *v3.Webhook) error { w.BaseURL = "https://example.com"; return nil }))
	must(t)(r.SetPubSub(ctx, "my-app", "my-pubsub", func(p *v3.PubSub) error {
		p.NATS, p.BaseTopic = &v3.NATSProvider{ServerURL: "nats://example.com"}, "up"
		return nil
	}))
	must(t)(r.SetLink(ctx, "my-app", func(l *v3.Link) error { l.SkipPayloadCrypto = true; return nil }))

	again := open(t, store)
	got, err := again.Device(ctx, devID("my-app", "dev-1"))
	if diff := cmp.Diff(updated, got); err != nil || diff != "" {
		t.Errorf("%v, %s", err, diff)
	}
	if id, ok := again.DeviceByEUI(*eui(1), *eui(7)); !ok || id != devID("my-app", "dev-1") {
		t.Errorf("device by EUI: %v %v", id, ok)
	}
	if id, _, ok := again.RadioGateway(*eui(9)); !ok || id != "my-gateway" {
		t.Errorf("radio gateway by EUI: %v %v", id, ok)
	}
	if w, err := again.Webhook(ctx, "my-app", "my-hook"); err != nil || w.BaseURL != "https://example.com" || w.Format != "json" {
		t.Errorf("webhook: %+v %v", w, err)
	}
	if p, err := again.AllPubSubs(ctx); err != nil || len(p) != 1 || p[0].IDs.PubSubID != "my-pubsub" {
		t.Errorf("pub/sub: %+v %v", p, err)
	}
	if l, err := again.Link(ctx, "my-app"); err != nil || !l.SkipPayloadCrypto {
		t.Errorf("link: %+v %v", l, err)
	}
	checkMemory(t, r, store)
}

func TestWhatIsNotThereHasAName(t *testing.T) {
	ctx := t.Context()
	r, _ := withApplication(t)
	for want, errs := range map[string][]error{
		"application_not_found": {
			second(r.Application(ctx, "other")), second(r.Devices(ctx, "other")), second(r.Link(ctx, "other")), second(r.Webhooks(ctx, "other")), second(r.PubSubs(ctx, "other")),
			second(r.APIKeys(ctx, "other")), second(r.CreateAPIKey(ctx, "other", v3.APIKey{Rights: []messages.Right{messages.RightApplicationAll}})),
			second(r.CreateDevice(ctx, newDevice("other", "dev-1", 7))), second(r.SetLink(ctx, "other", func(*v3.Link) error { return nil })), r.DeleteLink(ctx, "other"),
			second(r.SetWebhook(ctx, "other", "my-hook", func(*v3.Webhook) error { return nil })), second(r.UpdateApplication(ctx, "other", func(*v3.Application) error { return nil })),
			r.DeleteApplication(ctx, "other"),
		},
		"end_device_not_found": {
			second(r.Device(ctx, devID("my-app", "dev-1"))), second(r.UpdateDevice(ctx, devID("my-app", "dev-1"), func(*v3.EndDevice) error { return nil })), r.DeleteDevice(ctx, devID("my-app", "dev-1")),
		},
		"gateway_not_found": {second(r.Gateway(ctx, "gtw")), second(r.UpdateGateway(ctx, "gtw", func(*v3.Gateway) error { return nil })), r.DeleteGateway(ctx, "gtw")},
		"webhook_not_found": {second(r.Webhook(ctx, "my-app", "hook")), r.DeleteWebhook(ctx, "my-app", "hook")},
		"pubsub_not_found":  {second(r.PubSub(ctx, "my-app", "pub")), r.DeletePubSub(ctx, "my-app", "pub")},
		"api_key_not_found": {second(r.APIKey(ctx, "my-app", "KEY")), r.DeleteAPIKey(ctx, "my-app", "KEY"), second(r.UpdateAPIKey(ctx, "my-app", "KEY", func(*v3.APIKey) error { return nil }))},
	} {
		for _, err := range errs {
			wantError(t, err, want)
		}
	}
	if l, err := r.Link(ctx, "my-app"); err != nil || l.DefaultFormatters != nil {
		t.Errorf("link that was never set: %+v %v", l, err)
	}
	if err := r.DeleteLink(ctx, "my-app"); err != nil {
		t.Errorf("delete of a link that was never set: %v", err)
	}
}

func second[T any](_ T, err error) error { return err }

func TestIDsAndEUIPairsAreUnique(t *testing.T) {
	ctx := t.Context()
	r, store := withApplication(t)
	must(t)(r.CreateApplication(ctx, newApplication("second-app")))
	must(t)(r.CreateDevice(ctx, newDevice("my-app", "dev-1", 7)))
	must(t)(r.CreateGateway(ctx, newGateway("gtw-1", 9)))
	wantError(t, second(r.CreateApplication(ctx, newApplication("my-app"))), "id_taken")
	wantError(t, second(r.CreateDevice(ctx, newDevice("my-app", "dev-1", 8))), "id_taken")
	wantError(t, second(r.CreateDevice(ctx, newDevice("second-app", "dev-1", 7))), "end_device_euis_taken")
	wantError(t, second(r.CreateGateway(ctx, newGateway("gtw-1", 10))), "id_taken")
	wantError(t, second(r.CreateGateway(ctx, newGateway("gtw-2", 9))), "gateway_eui_taken")

	// A device without EUIs gets them later; they can't be another's and can't change.
	bare := newDevice("my-app", "dev-2", 0)
	bare.SupportsJoin, bare.IDs.JoinEUI, bare.IDs.DevEUI = false, nil, nil
	must(t)(r.CreateDevice(ctx, bare))
	set := func(n uint64) error {
		return second(r.UpdateDevice(ctx, devID("my-app", "dev-2"), func(d *v3.EndDevice) error { d.IDs.JoinEUI, d.IDs.DevEUI = eui(1), eui(n); return nil }))
	}
	wantError(t, set(7), "end_device_euis_taken")
	if err := set(8); err != nil {
		t.Fatal(err)
	}
	wantError(t, set(11), "invalid_dev_eui")
	if id, ok := r.DeviceByEUI(*eui(1), *eui(8)); !ok || id.DeviceID != "dev-2" {
		t.Errorf("got %v %v", id, ok)
	}

	// The EUI of a radio gateway may change, and then the old one is free.
	must(t)(r.UpdateGateway(ctx, "gtw-1", func(g *v3.Gateway) error { g.IDs.EUI = eui(12); return nil }))
	if _, _, ok := r.RadioGateway(*eui(9)); ok {
		t.Error("the old EUI is still known")
	}
	must(t)(r.CreateGateway(ctx, newGateway("gtw-2", 9)))
	// What is deleted is free.
	if err := errors.Join(r.DeleteDevice(ctx, devID("my-app", "dev-1")), r.DeleteGateway(ctx, "gtw-2")); err != nil {
		t.Fatal(err)
	}
	must(t)(r.CreateDevice(ctx, newDevice("second-app", "dev-9", 7)))
	must(t)(r.CreateGateway(ctx, newGateway("gtw-3", 9)))
	checkMemory(t, r, store)
}

func TestOneOfManyGetsAnEUIPair(t *testing.T) {
	ctx := t.Context()
	r, store := withApplication(t)
	var won atomic.Int32
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			switch _, err := r.CreateDevice(ctx, newDevice("my-app", fmt.Sprintf("dev-%d", i), 7)); {
			case err == nil:
				won.Add(1)
			default:
				wantError(t, err, "end_device_euis_taken")
			}
		})
	}
	wg.Wait()
	if won.Load() != 1 {
		t.Errorf("%d devices have one pair of EUIs", won.Load())
	}
	checkMemory(t, r, store)
}

// Devices that come and go with the same EUIs leave memory as the store is.

func TestCreationsAndDeletionsAtOnce(t *testing.T) {
	ctx := t.Context()
	r, store := withApplication(t)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			id := fmt.Sprintf("dev-%d", i)
			for n := range 50 {
				if _, err := r.CreateDevice(ctx, newDevice("my-app", id, uint64(n%3+1))); err == nil {
					if err := r.DeleteDevice(ctx, devID("my-app", id)); err != nil {
						t.Error(err)
					}
				} else {
					wantError(t, err, "end_device_euis_taken")
				}
			}
		})
	}
	wg.Wait()
	if diff := cmp.Diff([]string{"app my-app"}, stored(t, store)); diff != "" {
		t.Error(diff)
	}
	checkMemory(t, r, store)
}

func TestConcurrentUpdatesAreAllKept(t *testing.T) {
	ctx := t.Context()
	r, _ := withApplication(t)
	must(t)(r.CreateDevice(ctx, newDevice("my-app", "dev-1", 7)))
	var wg sync.WaitGroup
	for i := range 10 {
		wg.Go(func() {
			must(t)(r.UpdateDevice(ctx, devID("my-app", "dev-1"), func(d *v3.EndDevice) error {
				if d.Attributes == nil {
					d.Attributes = map[string]string{}
				}
				d.Attributes[fmt.Sprintf("key-%d", i)] = "x"
				return nil
			}))
		})
	}
	wg.Wait()
	if d, err := r.Device(ctx, devID("my-app", "dev-1")); err != nil || len(d.Attributes) != 10 {
		t.Errorf("got %v, %v", d.Attributes, err)
	}
}

func TestWhatIsGivenOutIsACopy(t *testing.T) {
	ctx := t.Context()
	r, _ := withApplication(t)
	in := newDevice("my-app", "dev-1", 7)
	in.Attributes = map[string]string{"key": "value"}
	out, err := r.CreateDevice(ctx, in)
	must(t)(out, err)
	in.Attributes["key"], out.Attributes["key"] = "changed", "changed"
	*in.IDs.DevEUI, *out.IDs.DevEUI = messages.EUI64{}, messages.EUI64{}
	refused := errors.New("no")
	if _, err := r.UpdateDevice(ctx, devID("my-app", "dev-1"), func(d *v3.EndDevice) error { d.Attributes["key"] = "changed"; return refused }); !errors.Is(err, refused) {
		t.Errorf("got %v", err)
	}
	if d, err := r.Device(ctx, devID("my-app", "dev-1")); err != nil || d.Attributes["key"] != "value" || *d.IDs.DevEUI != *eui(7) {
		t.Errorf("got %+v, %v", d, err)
	}
}

func TestWhatTheDeviceActorOwnsIsNotStored(t *testing.T) {
	r, _ := withApplication(t)
	d := newDevice("my-app", "dev-1", 7)
	d.Session, d.PendingSession, d.LastDevNonce, d.UsedDevNonces, d.LastJoinNonce = &v3.Session{}, &v3.Session{}, 3, []v3.Uint32{1}, 4
	got, err := r.CreateDevice(t.Context(), d)
	if err != nil || got.Session != nil || got.PendingSession != nil || got.LastDevNonce != 0 || got.UsedDevNonces != nil || got.LastJoinNonce != 0 {
		t.Errorf("got %+v, %v", got, err)
	}
}

// populate puts one of everything into an application.

func populate(t *testing.T, r *Registry, app string, first uint64) {
	t.Helper()
	ctx := t.Context()
	for i := range uint64(pageSize + 10) {
		must(t)(r.CreateDevice(ctx, newDevice(app, fmt.Sprintf("dev-%d", i), first+i)))
	}
	must(t)(r.SetLink(ctx, app, func(l *v3.Link) error { l.SkipPayloadCrypto = true; return nil }))
	must(t)(r.SetWebhook(ctx, app, "my-hook", func(w *v3.Webhook) error { w.BaseURL = "https://example.com"; return nil }))
	must(t)(r.SetPubSub(ctx, app, "my-pubsub", func(p *v3.PubSub) error {
		p.NATS, p.BaseTopic = &v3.NATSProvider{ServerURL: "nats://example.com"}, "up"
		return nil
	}))
	must(t)(r.CreateAPIKey(ctx, app, v3.APIKey{Rights: []messages.Right{messages.RightApplicationAll}}))
}

func TestApplicationIsDeletedWithAllThatIsInIt(t *testing.T) {
	ctx := t.Context()
	r, store := withApplication(t)
	must(t)(r.CreateApplication(ctx, newApplication("my-app-2"))) // its id begins like the other's
	populate(t, r, "my-app-2", 10000)
	rest := stored(t, store)
	populate(t, r, "my-app", 1)
	key, err := r.CreateAPIKey(ctx, "my-app", v3.APIKey{Rights: []messages.Right{messages.RightApplicationAll}})
	must(t)(key, err)
	if err := store.WriteDocuments(ctx, []messages.Write{{Kind: messages.KindMQTTSession, ID: "my-app.session", Value: []byte("{}")}}); err != nil {
		t.Fatal(err)
	}
	changes := recorded(r)
	if err := r.DeleteApplication(ctx, "my-app"); err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, s := range rest {
		if s != "app my-app" {
			want = append(want, s)
		}
	}
	if diff := cmp.Diff(want, stored(t, store)); diff != "" {
		t.Errorf("left in the store: %s", diff)
	}
	checkMemory(t, r, store)
	kinds := map[messages.Kind]int{}
	for i, c := range *changes {
		kinds[c.Kind]++
		if !c.Deleted || (c.Kind == messages.KindApplication) != (i == len(*changes)-1) {
			t.Errorf("change %d: %+v", i, c)
		}
	}
	if diff := cmp.Diff(map[messages.Kind]int{messages.KindDevice: pageSize + 10, messages.KindWebhook: 1, messages.KindPubSub: 1, messages.KindMQTTSession: 1, messages.KindLink: 1, messages.KindAPIKey: 2, messages.KindApplication: 1}, kinds); diff != "" {
		t.Errorf("announced: %s", diff)
	}
	wantError(t, second(r.Authorize(ctx, key.Key)), "unauthenticated")
	must(t)(r.CreateApplication(ctx, newApplication("my-app")))
	if list, err := r.Devices(ctx, "my-app"); err != nil || len(list) != 0 {
		t.Errorf("the new application has %d devices, %v", len(list), err)
	}
}

func TestNothingIsLeftBehindInAnApplicationThatIsBeingDeleted(t *testing.T) {
	ctx := t.Context()
	for range 20 {
		r, store := withApplication(t)
		var wg sync.WaitGroup
		for i := range 4 {
			wg.Go(func() {
				for n := range 10 {
					_, err := r.CreateDevice(ctx, newDevice("my-app", fmt.Sprintf("dev-%d-%d", i, n), uint64(100*i+n)+1))
					if err != nil {
						wantError(t, err, "application_not_found")
					}
				}
			})
		}
		wg.Go(func() {
			if err := r.DeleteApplication(ctx, "my-app"); err != nil {
				t.Error(err)
			}
		})
		wg.Wait()
		if got := stored(t, store); len(got) != 0 {
			t.Fatalf("left behind: %v", got)
		}
		checkMemory(t, r, store)
	}
}

func TestWatchersHearOfEachWriteInItsOrder(t *testing.T) {
	ctx := t.Context()
	r, store := withApplication(t)
	must(t)(r.CreateDevice(ctx, newDevice("my-app", "dev-1", 7)))
	type seen struct {
		messages.Change
		name string
	}
	var mu sync.Mutex
	var all []seen
	cancel := r.Watch(func(c messages.Change) {
		doc, _ := store.GetDocument(ctx, c.Kind, c.ID) // the write is durable before it is announced
		d, _ := decode[v3.EndDevice](doc)
		mu.Lock()
		defer mu.Unlock()
		all = append(all, seen{c, d.Name})
	})
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for n := range 25 {
				must(t)(r.UpdateDevice(ctx, devID("my-app", "dev-1"), func(d *v3.EndDevice) error { d.Name = fmt.Sprintf("%d.%d", i, n); return nil }))
			}
		})
	}
	wg.Wait()
	names := map[string]bool{}
	for _, s := range all {
		names[s.name] = true
		if s.Change != (messages.Change{Kind: messages.KindDevice, ID: "my-app.dev-1"}) {
			t.Errorf("got %+v", s)
		}
	}
	if len(all) != 100 || len(names) != 100 {
		t.Errorf("%d changes, %d different values seen; want 100 of each", len(all), len(names))
	}
	cancel()
	cancel()
	if err := r.DeleteDevice(ctx, devID("my-app", "dev-1")); err != nil || len(all) != 100 {
		t.Errorf("%v, %d changes after cancel", err, len(all))
	}
	changes := recorded(r)
	must(t)(r.CreateGateway(ctx, newGateway("gtw", 1)))
	if err := r.DeleteGateway(ctx, "gtw"); err != nil {
		t.Fatal(err)
	}
	wantError(t, second(r.CreateGateway(ctx, newGateway("no", 1))), "invalid_id")
	if diff := cmp.Diff([]messages.Change{{Kind: messages.KindRadioGateway, ID: "gtw"}, {Kind: messages.KindRadioGateway, ID: "gtw", Deleted: true}}, *changes); diff != "" {
		t.Error(diff)
	}
}

// Each call of the store fails once, with and without effect: what is in memory is what is stored, and the same step can be done again.
