package registry

import (
	"context"
	"errors"
	"strings"
	"testing"

	"lorikeet/messages"
	v3 "lorikeet/messages/v3"
	"lorikeet/persistence/memory"
	"lorikeet/persistence/persistencetest"
)

func TestDamagedDocumentsHideThemselvesOnly(t *testing.T) {
	ctx := t.Context()
	r, store := withApplication(t)
	must(t)(r.CreateDevice(ctx, newDevice("my-app", "dev-1", 7)))
	must(t)(r.CreateDevice(ctx, newDevice("my-app", "dev-2", 8)))
	must(t)(r.CreateGateway(ctx, newGateway("gtw-1", 9)))
	must(t)(r.CreateGateway(ctx, newGateway("gtw-2", 10)))
	good, err := r.CreateAPIKey(ctx, "my-app", v3.APIKey{Rights: []messages.Right{messages.RightApplicationAll}})
	must(t)(good, err)
	bad, err := r.CreateAPIKey(ctx, "my-app", v3.APIKey{Rights: []messages.Right{messages.RightApplicationAll}})
	must(t)(bad, err)
	const secret = `{"root_keys":{"app_key":{"key":"00112233445566778899AABBCCDDEEFF`
	var writes []messages.Write
	for kind, id := range map[messages.Kind]string{messages.KindDevice: "my-app.dev-1", messages.KindRadioGateway: "gtw-1", messages.KindAPIKey: bad.ID} {
		writes = append(writes, messages.Write{Kind: kind, ID: id, Value: []byte(secret)})
	}
	writes = append(writes, messages.Write{Kind: messages.KindDeviceEUI, ID: "no pair", Value: []byte("my-app.dev-1")},
		messages.Write{Kind: messages.KindDeviceEUI, ID: euiPair{*eui(1), *eui(99)}.id(), Value: []byte{0xff}})
	if err := store.WriteDocuments(ctx, writes); err != nil {
		t.Fatal(err)
	}
	r = open(t, store)
	if list, err := r.Devices(ctx, "my-app"); err != nil || len(list) != 1 || list[0].IDs.DeviceID != "dev-2" {
		t.Errorf("devices %+v, %v", list, err)
	}
	if list, err := r.Gateways(ctx); err != nil || len(list) != 1 || list[0].IDs.GatewayID != "gtw-2" {
		t.Errorf("radio gateways %+v, %v", list, err)
	}
	if _, err := r.Authorize(ctx, good.Key); err != nil {
		t.Error(err)
	}
	wantError(t, second(r.Authorize(ctx, bad.Key)), "unauthenticated")
	_, readErr := r.Device(ctx, devID("my-app", "dev-1"))
	_, updateErr := r.UpdateDevice(ctx, devID("my-app", "dev-1"), func(*v3.EndDevice) error { return nil })
	for _, err := range []error{readErr, updateErr} {
		if err == nil || messages.CodeOf(err) != messages.CodeInternal || strings.Contains(err.Error(), "0011") || !strings.Contains(err.Error(), "damaged") {
			t.Errorf("got %v", err)
		}
	}
	// They can be deleted and made again, with the same EUIs.
	if err := errors.Join(r.DeleteDevice(ctx, devID("my-app", "dev-1")), r.DeleteGateway(ctx, "gtw-1")); err != nil {
		t.Fatal(err)
	}
	must(t)(r.CreateDevice(ctx, newDevice("my-app", "dev-3", 7)))
	must(t)(r.CreateGateway(ctx, newGateway("gtw-3", 9)))
	if id, ok := r.DeviceByEUI(*eui(1), *eui(7)); !ok || id.DeviceID != "dev-3" {
		t.Errorf("got %v %v", id, ok)
	}
	if err := r.DeleteApplication(ctx, "my-app"); err != nil {
		t.Error(err)
	}
}

func TestDamagedPepperStopsTheServer(t *testing.T) {
	for _, value := range []string{`"AAAA"`, `{`, `null`} {
		store := memory.New()
		if err := store.WriteDocuments(t.Context(), []messages.Write{{Kind: messages.KindServer, ID: pepperID, Value: []byte(value)}}); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(t.Context(), store, Config{}); err == nil || !strings.Contains(err.Error(), "damaged") {
			t.Errorf("%s: got %v", value, err)
		}
	}
}

func TestStoreThatFails(t *testing.T) {
	steps := []struct {
		name string
		do   func(context.Context, *Registry) error
	}{
		{"create application", func(ctx context.Context, r *Registry) error {
			return second(r.CreateApplication(ctx, newApplication("my-app")))
		}},
		{"update application", func(ctx context.Context, r *Registry) error {
			return second(r.UpdateApplication(ctx, "my-app", func(a *v3.Application) error { a.Name = "x"; return nil }))
		}},
		{"create device", func(ctx context.Context, r *Registry) error {
			return second(r.CreateDevice(ctx, newDevice("my-app", "dev-1", 7)))
		}},
		{"create second device", func(ctx context.Context, r *Registry) error {
			return second(r.CreateDevice(ctx, newDevice("my-app", "dev-2", 8)))
		}},
		{"delete device", func(ctx context.Context, r *Registry) error { return r.DeleteDevice(ctx, devID("my-app", "dev-2")) }},
		{"create key", func(ctx context.Context, r *Registry) error {
			return second(r.CreateAPIKey(ctx, "my-app", v3.APIKey{Rights: []messages.Right{messages.RightApplicationAll}}))
		}},
		{"create gateway", func(ctx context.Context, r *Registry) error {
			return second(r.CreateGateway(ctx, newGateway("gtw-1", 9)))
		}},
		{"move gateway", func(ctx context.Context, r *Registry) error {
			return second(r.UpdateGateway(ctx, "gtw-1", func(g *v3.Gateway) error { g.IDs.EUI = eui(10); return nil }))
		}},
		{"see gateway", func(ctx context.Context, r *Registry) error { return r.RegisterSeenGateway(ctx, *eui(11)) }},
		{"set webhook", func(ctx context.Context, r *Registry) error {
			return second(r.SetWebhook(ctx, "my-app", "my-hook", func(w *v3.Webhook) error { w.BaseURL = "https://example.com"; return nil }))
		}},
		{"set link", func(ctx context.Context, r *Registry) error {
			return second(r.SetLink(ctx, "my-app", func(*v3.Link) error { return nil }))
		}},
		{"delete webhook", func(ctx context.Context, r *Registry) error { return r.DeleteWebhook(ctx, "my-app", "my-hook") }},
		{"delete gateway", func(ctx context.Context, r *Registry) error { return r.DeleteGateway(ctx, "gtw-1") }},
		{"delete application", func(ctx context.Context, r *Registry) error { return r.DeleteApplication(ctx, "my-app") }},
	}
	for _, c := range []struct{ after, shared bool }{{false, false}, {true, false}, {false, true}, {true, true}} {
		after := c.after
		for n := 1; ; n++ {
			inner := memory.New()
			if _, err := Open(t.Context(), inner, Config{}); err != nil { // so that the pepper is there
				t.Fatal(err)
			}
			failing := persistencetest.NewFailing(inner, n, after)
			var store Store = failing
			if c.shared {
				store = unsteady{failing, inner.Node()}
			}
			r, err := Open(t.Context(), store, Config{})
			if err != nil {
				continue
			}
			t.Cleanup(r.Close)
			for _, step := range steps {
				if err := step.do(t.Context(), r); err != nil {
					if !errors.Is(err, persistencetest.ErrInjected) {
						t.Fatalf("n=%d %+v: %s: %v", n, c, step.name, err)
					}
					checkMemory(t, r, inner)
					if err := step.do(t.Context(), r); err != nil {
						t.Fatalf("n=%d %+v: %s again: %v", n, c, step.name, err)
					}
				}
				checkMemory(t, r, inner)
			}
			if !failing.Failed() {
				if n < 40 {
					t.Fatalf("only %d calls", n)
				}
				break
			}
		}
	}
}

func TestCallerThatIsGoneBeforeTheWriteChangesNothing(t *testing.T) {
	r, store := withApplication(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := r.CreateDevice(ctx, newDevice("my-app", "dev-1", 7)); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if got := stored(t, store); len(got) != 1 {
		t.Errorf("stored: %v", got)
	}
}
