package registry

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"lorikeet/messages"
	v3 "lorikeet/messages/v3"
	"lorikeet/persistence/memory"
)

var trafficKey = v3.APIKey{Name: "traffic", Rights: []messages.Right{messages.RightApplicationTrafficRead, messages.RightApplicationTrafficDownWrite, messages.RightApplicationTrafficRead}}

func TestAPIKeyGivesItsRightsOnItsApplication(t *testing.T) {
	ctx := t.Context()
	r, store := withApplication(t)
	key, err := r.CreateAPIKey(ctx, "my-app", trafficKey)
	must(t)(key, err)
	if parts := strings.Split(key.Key, "."); len(parts) != 3 || parts[0] != "NNSXS" || parts[1] != key.ID || len(parts[2]) != 52 {
		t.Errorf("key %q", key.Key)
	}
	for _, r := range []*Registry{r, open(t, store)} {
		access, err := r.Authorize(ctx, key.Key)
		if err != nil || access.Admin || access.KeyID != key.ID || !access.Can("my-app", messages.RightApplicationTrafficRead, messages.RightApplicationTrafficDownWrite) ||
			access.Can("my-app", messages.RightApplicationDelete) || access.Can("other", messages.RightApplicationTrafficRead) || access.Can("", messages.RightApplicationTrafficRead) {
			t.Errorf("got %+v, %v", access, err)
		}
		list, err := r.APIKeys(ctx, "my-app")
		if err != nil || len(list) != 1 || list[0].Key != "" || len(list[0].Rights) != 2 {
			t.Errorf("list %+v, %v", list, err)
		}
	}
	secret := strings.Split(key.Key, ".")[2]
	if doc, err := store.GetDocument(ctx, messages.KindAPIKey, key.ID); err != nil || strings.Contains(string(doc.Value), secret) {
		t.Errorf("the secret is stored: %v", err)
	}
}

// Whoever tries keys learns nothing from the answer.
func TestRefusedKeysAllGetOneAnswer(t *testing.T) {
	ctx := t.Context()
	now := noon
	r, _ := withApplication(t, func(c *Config) { c.Clock = func() time.Time { return now } })
	if _, err := r.EnsureAdminKey(ctx, "the preset admin key"); err != nil {
		t.Fatal(err)
	}
	expiry := noon.Add(time.Hour)
	good, err := r.CreateAPIKey(ctx, "my-app", v3.APIKey{Rights: trafficKey.Rights, ExpiresAt: &expiry})
	must(t)(good, err)
	other, err := r.CreateAPIKey(ctx, "my-app", trafficKey)
	must(t)(other, err)
	deleted, err := r.CreateAPIKey(ctx, "my-app", trafficKey)
	must(t)(deleted, err)
	if err := r.DeleteAPIKey(ctx, "my-app", deleted.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Authorize(ctx, good.Key); err != nil {
		t.Error(err)
	}
	part := strings.Split(good.Key, ".")
	now = expiry
	for name, key := range map[string]string{
		"empty": "", "expired": good.Key, "deleted": deleted.Key, "no key": "hello", "too long": strings.Repeat("A", 300), "id alone": part[0] + "." + part[1],
		"no secret": part[0] + "." + part[1] + ".", "secret of another": part[0] + "." + part[1] + "." + strings.Split(other.Key, ".")[2], "unknown id": "NNSXS.AAAA." + part[2],
		"lower case": strings.ToLower(other.Key), "one letter less": other.Key[:len(other.Key)-1], "one more": other.Key + "A", "another kind": "NNSAC." + part[1] + "." + part[2],
		"preset by its id": "NNSXS.preset.the preset admin key", "preset without secret": "NNSXS.preset.", "part of the preset": "the preset admin ke", "the hash of nothing": "NNSXS..",
	} {
		access, err := r.Authorize(ctx, key)
		if err == nil || err.Error() != unauthenticated().Error() || messages.CodeOf(err) != messages.CodeUnauthenticated || access.KeyID != "" || access.Admin || access.Rights != nil {
			t.Errorf("%s: got %+v, %v", name, access, err)
		}
	}
}

func TestAPIKeyIsUsefulUntilItExpires(t *testing.T) {
	ctx := t.Context()
	now := noon
	r, _ := withApplication(t, func(c *Config) { c.Clock = func() time.Time { return now } })
	for _, expiry := range []time.Time{noon, noon.Add(-time.Hour)} {
		wantError(t, second(r.CreateAPIKey(ctx, "my-app", v3.APIKey{Rights: trafficKey.Rights, ExpiresAt: &expiry})), "invalid_expires_at")
	}
	expiry := noon.Add(time.Minute)
	key, err := r.CreateAPIKey(ctx, "my-app", v3.APIKey{Rights: trafficKey.Rights, ExpiresAt: &expiry})
	must(t)(key, err)
	for after, ok := range map[time.Duration]bool{0: true, time.Minute - 1: true, time.Minute: false, time.Hour: false} {
		now = noon.Add(after)
		if _, err := r.Authorize(ctx, key.Key); (err == nil) != ok {
			t.Errorf("after %v: %v", after, err)
		}
	}
	now = noon
	must(t)(r.UpdateAPIKey(ctx, "my-app", key.ID, func(k *v3.APIKey) error { k.ExpiresAt = nil; return nil }))
	now = noon.Add(time.Hour)
	if _, err := r.Authorize(ctx, key.Key); err != nil {
		t.Error(err)
	}
}

func TestRightsAreChecked(t *testing.T) {
	ctx := t.Context()
	r, _ := withApplication(t)
	for name, rights := range map[string][]messages.Right{
		"none": nil, "unknown": {"RIGHT_TO_PARTY"}, "of a radio gateway": {messages.RightGatewayAll}, "one unknown": {messages.RightApplicationInfo, ""},
	} {
		if err := second(r.CreateAPIKey(ctx, "my-app", v3.APIKey{Rights: rights})); messages.CodeOf(err) != messages.CodeInvalid {
			t.Errorf("%s: got %v", name, err)
		}
	}
	wantError(t, second(r.CreateAPIKey(ctx, "my-app", v3.APIKey{Name: strings.Repeat("x", 51), Rights: trafficKey.Rights})), "invalid_name")
	wantError(t, second(r.CreateAPIKey(ctx, "", v3.APIKey{Rights: []messages.Right{messages.RightApplicationAll}})), "invalid_rights")
	key, err := r.CreateAPIKey(ctx, "my-app", trafficKey)
	must(t)(key, err)
	must(t)(r.UpdateAPIKey(ctx, "my-app", key.ID, func(k *v3.APIKey) error {
		k.Rights, k.ID, k.Key = []messages.Right{messages.RightApplicationInfo}, "OTHER", "x"
		return nil
	}))
	access, err := r.Authorize(ctx, key.Key)
	if err != nil || access.Can("my-app", messages.RightApplicationTrafficRead) || !access.Can("my-app", messages.RightApplicationInfo) || access.KeyID != key.ID {
		t.Errorf("got %+v, %v", access, err)
	}
	wantError(t, second(r.UpdateAPIKey(ctx, "my-app", key.ID, func(k *v3.APIKey) error { k.Rights = nil; return nil })), "invalid_rights")
}

func TestKeysOfOneApplicationAreNotThoseOfAnother(t *testing.T) {
	ctx := t.Context()
	r, _ := withApplication(t)
	must(t)(r.CreateApplication(ctx, newApplication("second-app")))
	key, err := r.CreateAPIKey(ctx, "my-app", trafficKey)
	must(t)(key, err)
	admin, err := r.CreateAPIKey(ctx, "", v3.APIKey{})
	must(t)(admin, err)
	for app, id := range map[string]string{"second-app": key.ID, "": key.ID, "my-app": admin.ID} {
		wantError(t, second(r.APIKey(ctx, app, id)), "api_key_not_found")
		wantError(t, r.DeleteAPIKey(ctx, app, id), "api_key_not_found")
		wantError(t, second(r.UpdateAPIKey(ctx, app, id, func(*v3.APIKey) error { return nil })), "api_key_not_found")
	}
	if list, err := r.APIKeys(ctx, "second-app"); err != nil || len(list) != 0 {
		t.Errorf("got %v, %v", list, err)
	}
}

func TestAdminKeys(t *testing.T) {
	ctx := t.Context()
	now := noon
	store := memory.New()
	r := open(t, store, func(c *Config) { c.Clock = func() time.Time { return now } })
	first, err := r.EnsureAdminKey(ctx, "")
	if err != nil || first == "" {
		t.Fatalf("got %q, %v", first, err)
	}
	access, err := r.Authorize(ctx, first)
	if err != nil || !access.Admin || !access.Can("anything", messages.RightApplicationDelete) || !access.Can("", messages.RightGatewayAll) {
		t.Errorf("got %+v, %v", access, err)
	}
	if again, err := r.EnsureAdminKey(ctx, ""); err != nil || again != "" {
		t.Errorf("there is a key, but another was made: %v", err)
	}
	soon := noon.Add(time.Hour)
	must(t)(r.UpdateAPIKey(ctx, "", access.KeyID, func(k *v3.APIKey) error { k.ExpiresAt = &soon; return nil }))
	now = soon
	if again, err := r.EnsureAdminKey(ctx, ""); err != nil || again == "" || again == first {
		t.Errorf("the only key has expired: got %q, %v", again, err)
	}
}

func TestPresetAdminKey(t *testing.T) {
	ctx := t.Context()
	store := memory.New()
	var log strings.Builder
	r := open(t, store, func(c *Config) { c.Log = slog.New(slog.NewTextHandler(&log, nil)) })
	for _, preset := range []string{"a preset that is long enough", "short", "NNSXS.ABC.DEF", "NNSXS.preset.DEF"} {
		changes := recorded(r)
		for range 2 {
			if created, err := r.EnsureAdminKey(ctx, preset); err != nil || created != "" {
				t.Fatalf("got %q, %v", created, err)
			}
		}
		if len(*changes) != 1 {
			t.Errorf("%d writes for one preset", len(*changes))
		}
		if access, err := open(t, store).Authorize(ctx, preset); err != nil || !access.Admin || access.KeyID != presetKeyID {
			t.Errorf("%s: got %+v, %v", preset, access, err)
		}
	}
	wantError(t, second(r.Authorize(ctx, "short")), "unauthenticated") // replaced by a later one
	if strings.Count(log.String(), "can be guessed") == 0 || strings.Contains(log.String(), "long enough") || strings.Contains(log.String(), "NNSXS") {
		t.Errorf("log: %s", log.String())
	}
	wantError(t, second(r.EnsureAdminKey(ctx, strings.Repeat("x", maxKeyText+1))), "invalid_admin_key")
	wantError(t, second(r.UpdateAPIKey(ctx, "", presetKeyID, func(*v3.APIKey) error { return nil })), "preset_api_key")
	if err := r.DeleteAPIKey(ctx, "", presetKeyID); err != nil {
		t.Error(err)
	}
	wantError(t, second(r.Authorize(ctx, "NNSXS.preset.DEF")), "unauthenticated")
}

func TestKeysAreNotMadeWithoutRandomness(t *testing.T) {
	r, store := withApplication(t)
	r.rand = strings.NewReader("too few")
	if _, err := r.CreateAPIKey(t.Context(), "my-app", trafficKey); err == nil {
		t.Error("a key was made")
	}
	checkMemory(t, r, store)
}

func TestAutoRegistrationIsLimited(t *testing.T) {
	ctx := t.Context()
	r, store := withApplication(t, func(c *Config) { c.MaxSeenGateways = 3 })
	must(t)(r.CreateGateway(ctx, newGateway("mine", 100)))
	for i := range uint64(3) {
		if err := errors.Join(r.RegisterSeenGateway(ctx, *eui(i + 1)), r.RegisterSeenGateway(ctx, *eui(i + 1))); err != nil {
			t.Fatal(err)
		}
	}
	wantError(t, r.RegisterSeenGateway(ctx, *eui(4)), "too_many_seen_gateways")
	for _, known := range []uint64{1, 100} {
		if err := r.RegisterSeenGateway(ctx, *eui(known)); err != nil {
			t.Errorf("%d is registered: %v", known, err)
		}
	}
	must(t)(r.CreateGateway(ctx, newGateway("mine-too", 101))) // people are not limited
	g, err := r.Gateway(ctx, "eui-0000000000000001")
	if err != nil || !g.AutoRegistered || *g.IDs.EUI != *eui(1) {
		t.Errorf("got %+v, %v", g, err)
	}
	// One that a person takes over, or deletes, makes room; also after a restart.
	must(t)(r.UpdateGateway(ctx, g.IDs.GatewayID, func(g *v3.Gateway) error { g.AutoRegistered = false; return nil }))
	if err := r.RegisterSeenGateway(ctx, *eui(4)); err != nil {
		t.Error(err)
	}
	r = open(t, store, func(c *Config) { c.MaxSeenGateways = 3 })
	wantError(t, r.RegisterSeenGateway(ctx, *eui(5)), "too_many_seen_gateways")
	if err := errors.Join(r.DeleteGateway(ctx, "eui-0000000000000002"), r.RegisterSeenGateway(ctx, *eui(5))); err != nil {
		t.Error(err)
	}
	checkMemory(t, r, store)
}

func TestManyAtOnceRegisterOneSeenGateway(t *testing.T) {
	r, store := withApplication(t)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if err := r.RegisterSeenGateway(t.Context(), *eui(1)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if diff := cmp.Diff([]string{"app my-app", "gtw eui-0000000000000001", "gtweui 0000000000000001"}, stored(t, store)); diff != "" {
		t.Error(diff)
	}
}

// The id that a seen radio gateway would get may be taken by a person for another one.
func TestSeenGatewayDoesNotTakeAnIDOfAnother(t *testing.T) {
	ctx := t.Context()
	r, _ := withApplication(t)
	must(t)(r.CreateGateway(ctx, newGateway("eui-0000000000000001", 2)))
	wantError(t, r.RegisterSeenGateway(ctx, *eui(1)), "id_taken")
	bare := newGateway("eui-0000000000000003", 3)
	bare.IDs.EUI, bare.Name = nil, "mine"
	must(t)(r.CreateGateway(ctx, bare))
	if err := r.RegisterSeenGateway(ctx, *eui(3)); err != nil {
		t.Fatal(err)
	}
	if g, err := r.Gateway(ctx, bare.IDs.GatewayID); err != nil || g.Name != "mine" || g.AutoRegistered || *g.IDs.EUI != *eui(3) {
		t.Errorf("got %+v, %v", g, err)
	}
}

func TestLocationOfARadioGateway(t *testing.T) {
	ctx := t.Context()
	r, _ := withApplication(t)
	g := newGateway("gtw", 1)
	g.Antennas = []v3.GatewayAntenna{{}, {Location: &v3.Location{Latitude: 52, Longitude: 4, Altitude: 7}}}
	must(t)(r.CreateGateway(ctx, g))
	if _, l, ok := r.RadioGateway(*eui(1)); !ok || fmt.Sprint(*l) != "{52 4 7 0 SOURCE_REGISTRY}" {
		t.Errorf("got %v %v", l, ok)
	}
	must(t)(r.UpdateGateway(ctx, "gtw", func(g *v3.Gateway) error { g.Antennas = nil; return nil }))
	if _, l, _ := r.RadioGateway(*eui(1)); l != nil {
		t.Errorf("got %v", l)
	}
}
