package jetstream

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"lorikeet/messages"
)

func TestTokensAreSafeAndComeBack(t *testing.T) {
	t.Parallel()
	n := names{ns: "ns", upper: "NS", journals: 3}
	rapid.Check(t, func(t *rapid.T) {
		id := messages.DeviceID{ApplicationID: rapid.StringN(1, 20, 60).Draw(t, "app"), DeviceID: rapid.StringN(1, 20, 60).Draw(t, "dev")}
		for _, subject := range []string{n.device(id), n.cut(id.ApplicationID), n.eventsOnly(id.ApplicationID), n.document("dev", id.UID()), n.entry(id)} {
			for i := range len(subject) {
				if c := subject[i]; !safe(c) && c != '.' && c != escape {
					t.Fatalf("%q has an unsafe byte", subject)
				}
			}
		}
		if got, cut, ok := n.parseJournal(n.device(id)); !ok || cut || got != id {
			t.Fatalf("%q gives %v, %t, %t", n.device(id), got, cut, ok)
		}
		if got, cut, ok := n.parseJournal(n.cut(id.ApplicationID)); !ok || !cut || got.ApplicationID != id.ApplicationID {
			t.Fatalf("cut gives %v, %t, %t", got, cut, ok)
		}
		if got, cut, ok := n.parseJournal(n.eventsOnly(id.ApplicationID)); !ok || cut || got != (messages.DeviceID{ApplicationID: id.ApplicationID}) {
			t.Fatalf("commit without record gives %v, %t, %t", got, cut, ok)
		}
		if kind, got, ok := n.parseDocument(n.document("a.b", id.UID())); !ok || kind != "a.b" || got != id.UID() {
			t.Fatalf("document gives %q, %q, %t", kind, got, ok)
		}
		if got, ok := n.parseEntry(n.entry(id)); !ok || got != id {
			t.Fatalf("entry gives %v, %t", got, ok)
		}
	})
	for _, bad := range []string{"", "=", "===", "a=", "a=4", "a=41", "=ZZ", "=2e"} {
		if text, ok := untoken(bad); ok {
			t.Errorf("%q was read as %q", bad, text)
		}
	}
}

func FuzzDecodeBody(f *testing.F) {
	f.Add(encodeBody(0, nil, nil))
	f.Add(encodeBody(7, []byte("record"), []messages.Event{testEvent(1), {}}))
	f.Add([]byte{bodyVersion, flagRecord, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := decodeBody(b)
		if err != nil {
			return
		}
		again, err := decodeBody(encodeBody(got.revision, got.record, got.events))
		if err != nil || again.revision != got.revision || !bytes.Equal(again.record, got.record) || (again.record == nil) != (got.record == nil) {
			t.Fatalf("%+v becomes %+v, %v", got, again, err)
		}
		if d := cmp.Diff(got.events, again.events); d != "" {
			t.Fatal(d)
		}
	})
}
