package registry

import (
	"strings"
	"testing"

	"lorikeet/messages"
	"lorikeet/messages/keywrap"
	v3 "lorikeet/messages/v3"
	"lorikeet/persistence"
	"lorikeet/persistence/memory"
)

func TestKEKsAreFoundByLabel(t *testing.T) {
	server, err := keywrap.Parse("as/server", strings.Repeat("0A", 32))
	if err != nil {
		t.Fatal(err)
	}
	r, err := Open(t.Context(), memory.New(), Config{KEKs: map[string]keywrap.KEK{"as/server": server}})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	app := v3.Application{IDs: v3.ApplicationIDs{ApplicationID: "app"}}
	if _, err := r.CreateApplication(t.Context(), app); err != nil {
		t.Fatal(err)
	}
	dev := v3.EndDevice{IDs: v3.EndDeviceIDs{DeviceID: "dev", ApplicationIDs: app.IDs}}
	wraps := func(label string) {
		t.Helper()
		kek, err := r.WrappingKEK(t.Context(), dev)
		if err != nil || kek != nil && kek.Label != label || kek == nil && label != "" {
			t.Fatalf("%v %v, want %q", kek, err, label)
		}
	}
	set := func(s v3.ActivationSettings) error {
		_, err := r.SetActivationSettings(t.Context(), "app", func(v *v3.ActivationSettings) error { *v = s; return nil })
		return err
	}
	wraps("")
	if err := set(v3.ActivationSettings{KEKLabel: "as/server"}); err != nil {
		t.Fatal(err)
	}
	wraps("as/server")
	if err := set(v3.ActivationSettings{KEKLabel: "mine", KEK: &v3.KEK{Key: make([]byte, 16)}}); err != nil {
		t.Fatal(err)
	}
	wraps("mine")
	dev.ApplicationServerKEKLabel = "as/server" // the device's word wins
	wraps("as/server")
	dev.ApplicationServerKEKLabel = "gone"
	if _, err := r.WrappingKEK(t.Context(), dev); messages.CodeOf(err) != messages.CodePrecondition {
		t.Fatal(err)
	}
	if err := set(v3.ActivationSettings{KEKLabel: "gone"}); messages.CodeOf(err) != messages.CodeInvalid {
		t.Fatal(err)
	}
	if _, err := r.KEK(t.Context(), "app", "mine"); err != nil {
		t.Fatal(err)
	}
}

func TestActivationSettingsGoWithTheirApplicationAndAreSealed(t *testing.T) {
	if !persistence.Secret(messages.KindActivation) {
		t.Error("a KEK would be stored in clear")
	}
	store := memory.New()
	r, err := Open(t.Context(), store, Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for range 2 {
		if _, err := r.CreateApplication(t.Context(), v3.Application{IDs: v3.ApplicationIDs{ApplicationID: "app"}}); err != nil {
			t.Fatal(err)
		}
		if s, err := r.ActivationSettings(t.Context(), "app"); err != nil || s.HomeNetID != "" {
			t.Fatalf("%+v %v", s, err)
		}
		if _, err := r.SetActivationSettings(t.Context(), "app", func(v *v3.ActivationSettings) error { v.HomeNetID = "000013"; return nil }); err != nil {
			t.Fatal(err)
		}
		if err := r.DeleteApplication(t.Context(), "app"); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := r.ActivationSettings(t.Context(), "app"); messages.CodeOf(err) != messages.CodeNotFound {
		t.Fatal(err)
	}
}
