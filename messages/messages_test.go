package messages

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func TestKeysNeverPrintThemselves(t *testing.T) {
	key, err := ParseKey("00112233445566778899aabbccddeeff")
	if err != nil {
		t.Fatal(err)
	}
	holder := struct{ AppKey Key }{key}
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "key", key, "holder", holder)
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "key", key, "holder", fmt.Sprintf("%+v %#v %x %v %s", holder, holder, holder, &holder, key))
	if _, err := json.Marshal(holder); err == nil {
		t.Error("a key was marshalled by accident")
	}
	if s := strings.ToLower(log.String()); strings.Contains(s, "2233") || strings.Contains(s, "34 51") {
		t.Error(s)
	}
	if key.Hex() != "00112233445566778899AABBCCDDEEFF" {
		t.Error(key.Hex())
	}
	if _, err := ParseKey("00112233445566778899aabbccddeefg"); err == nil || strings.Contains(err.Error(), "0011") {
		t.Errorf("%v", err)
	}
}

func TestIdentifiersHaveOneTextForm(t *testing.T) {
	for _, in := range []string{"0004A30B001C0530", "0004a30b001c0530", "00-04-A3-0B-00-1C-05-30", "00:04:a3:0b:00:1c:05:30"} {
		e, err := ParseEUI64(in)
		if err != nil || e.String() != "0004A30B001C0530" {
			t.Errorf("%s: %s %v", in, e, err)
		}
	}
	for _, in := range []string{"", "0004A30B001C053", "0004A30B001C05300", "0004A30B001C053G", "0-004A30B001C0530"} {
		if e, err := ParseEUI64(in); err == nil {
			t.Errorf("%q was read as %s", in, e)
		}
	}
	if a, err := ParseDevAddr("26011bda"); err != nil || a.String() != "26011BDA" {
		t.Errorf("%s %v", a, err)
	}
}

func TestIDRule(t *testing.T) {
	for id, ok := range map[string]bool{
		"abc": true, "a1b": true, "dev-1": true, strings.Repeat("a", 36): true, "ab": false, "": false, "-ab": false, "ab-": false, "a--b": false, "Abc": false,
		"a_b": false, "a.b": false, strings.Repeat("a", 37): false, "ä-b-c": false,
	} {
		if err := ValidateID(id); (err == nil) != ok {
			t.Errorf("%q: %v", id, err)
		}
	}
}

func TestUIDRoundTrip(t *testing.T) {
	id := DeviceID{"app-1", "dev-1"}
	if got, err := ParseUID(id.UID()); err != nil || got != id {
		t.Errorf("%v %v", got, err)
	}
	for _, uid := range []string{"", ".", "app", "app.", ".dev", "app.dev.x"} {
		if id, err := ParseUID(uid); err == nil {
			t.Errorf("%q was read as %v", uid, id)
		}
	}
}

func TestRights(t *testing.T) {
	all := Access{ApplicationID: "a", Rights: []Right{RightApplicationAll}}
	link := Access{ApplicationID: "a", Rights: []Right{RightApplicationLink}}
	read := Access{ApplicationID: "a", Rights: []Right{RightApplicationTrafficRead}}
	for _, c := range []struct {
		access Access
		app    string
		rights []Right
		want   bool
	}{
		{Access{Admin: true}, "any", []Right{RightApplicationDelete}, true},
		{all, "a", []Right{RightApplicationDelete, RightApplicationDevicesReadKeys}, true},
		{all, "b", []Right{RightApplicationInfo}, false},
		{link, "a", []Right{RightApplicationInfo, RightApplicationTrafficRead, RightApplicationTrafficDownWrite}, true},
		{link, "a", []Right{RightApplicationDevicesRead}, false},
		{read, "a", []Right{RightApplicationTrafficRead}, true},
		{read, "a", []Right{RightApplicationTrafficRead, RightApplicationTrafficDownWrite}, false},
		{Access{Rights: []Right{RightApplicationAll}}, "", []Right{RightApplicationInfo}, false},
	} {
		if got := c.access.Can(c.app, c.rights...); got != c.want {
			t.Errorf("%+v on %q for %v: %v", c.access, c.app, c.rights, got)
		}
	}
}

// A kind that is not in Kinds would be left behind by whatever goes through all of them.
func TestKindsAreAllListed(t *testing.T) {
	source, err := os.ReadFile("store.go")
	if err != nil {
		t.Fatal(err)
	}
	declared := regexp.MustCompile(`(?m)^\tKind\w+ +Kind += "(\w+)"`).FindAllSubmatch(source, -1)
	for _, d := range declared {
		if !slices.Contains(Kinds[:], Kind(d[1])) {
			t.Errorf("kind %q is not in Kinds", d[1])
		}
	}
	if len(declared) != len(Kinds) {
		t.Errorf("%d kinds are declared, %d listed", len(declared), len(Kinds))
	}
}
