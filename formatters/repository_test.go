package formatters

import (
	"encoding/json"
	"errors"
	"log/slog"
	"testing"

	"lorikeet/formatters/repository"
	"lorikeet/messages"
)

func TestNamedCodecs(t *testing.T) {
	t.Parallel()
	codecs, err := repository.Open("repository/testdata/devices", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	s := openSet(t, Config{Repository: codecs})
	device := messages.FormatterDevice{VersionIDs: &messages.VersionIDs{BrandID: "alder", ModelID: "room-sensor", FirmwareVersion: "1.0", BandID: "EU_863_870"}}
	byIDs := messages.Formatter{Kind: messages.FormatterRepository}
	d, err := s.DecodeUplink(t.Context(), byIDs, messages.DecodeInput{Bytes: []byte{0, 0xd7, 90, 0}, FPort: 1, FormatterDevice: device})
	if want := `{"air":{"temperature":21.5,"relativeHumidity":45},"action":{"motion":{"detected":false}}}`; err != nil || len(d.Normalized) != 1 || string(d.Normalized[0]) != want {
		t.Errorf("got %s, %v; want %s", d.Normalized, err, want)
	}
	e, err := s.EncodeDownlink(t.Context(), byIDs, messages.EncodeInput{Data: json.RawMessage(`{"interval":600}`), FormatterDevice: device})
	if err != nil || string(e.Bytes) != "\x02\x58" || e.FPort != 2 {
		t.Errorf("got %+v, %v", e, err)
	}
	d, err = s.DecodeDownlink(t.Context(), byIDs, messages.DecodeInput{Bytes: e.Bytes, FPort: 2, FormatterDevice: device})
	if err != nil || string(d.Data) != `{"interval":600}` {
		t.Errorf("got %s, %v", d.Data, err)
	}
	byName := func(name string) messages.Formatter {
		return messages.Formatter{Kind: messages.FormatterRepository, Parameter: name}
	}
	d, err = s.DecodeUplink(t.Context(), byName("alder/room-sensor-2-codec"), messages.DecodeInput{Bytes: []byte{0xff, 0x9c}, FPort: 1})
	if err != nil || string(d.Data) != `{"temperature":-1}` {
		t.Errorf("a codec in Lua: got %s, %v", d.Data, err)
	}
	for name, f := range map[string]messages.Formatter{"no_version_identifiers": byIDs, "no_codec": byName("alder/none")} {
		_, err := s.DecodeUplink(t.Context(), f, messages.DecodeInput{Bytes: []byte{1}})
		if !errors.Is(err, &messages.Error{Name: name}) {
			t.Errorf("got %v, want %s", err, name)
		}
	}
	if err := errors.Join(s.Check(t.Context(), byIDs), s.Check(t.Context(), byName("birch/meter"))); err != nil {
		t.Error(err)
	}
	if err := s.Check(t.Context(), byName("birch/none")); err == nil {
		t.Error("a codec that there is not was taken for good")
	}
	_, err = openSet(t, Config{}).DecodeUplink(t.Context(), byIDs, messages.DecodeInput{FormatterDevice: device})
	if !errors.Is(err, &messages.Error{Name: "formatter_not_configured"}) {
		t.Errorf("without a repository: got %v", err)
	}
}
