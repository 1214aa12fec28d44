package formatters_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"lorikeet/formatters"
	"lorikeet/formatters/cases"
	"lorikeet/messages"
)

// TestCorpus runs testdata/cases.jsonl: what real codecs use of their language, and what is made of what they return.
func TestCorpus(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("testdata/cases.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	set, err := formatters.Open(formatters.Config{Timeout: 5 * timeout})
	if err != nil {
		t.Fatal(err)
	}
	defer set.Close()
	lines := bytes.Split(bytes.TrimSpace(text), []byte("\n"))
	if len(lines) < 120 {
		t.Errorf("%d cases are too few", len(lines))
	}
	for i, line := range lines {
		c, err := cases.Parse(line)
		if err != nil || len(c.Ignored) > 0 {
			t.Fatalf("line %d: %v, ignored %q", i+1, err, c.Ignored)
		}
		got, err := runCase(t, set, c)
		if diff := c.Want.Diff(got, err); len(diff) > 0 {
			t.Errorf("line %d: %s on %d: %s", i+1, c.Codec, c.Decode.FPort, strings.Join(diff, "; "))
		}
	}
}

func runCase(t *testing.T, set *formatters.Set, c cases.Case) (cases.Got, error) {
	t.Helper()
	f := messages.Formatter{Kind: messages.FormatterCayenneLPP}
	if c.Codec != "cayennelpp" {
		source, err := os.ReadFile(filepath.Join("testdata", c.Codec))
		if err != nil {
			t.Fatal(err)
		}
		f = messages.Formatter{Kind: messages.FormatterJavaScript, Parameter: string(source)}
		if filepath.Ext(c.Codec) == ".lua" {
			f.Kind = messages.FormatterLua
		}
	}
	if c.Decode.RecvTime.IsZero() {
		c.Decode.RecvTime = time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)
	}
	switch c.Use {
	case messages.DownlinkEncoder:
		e, err := set.EncodeDownlink(t.Context(), f, c.Encode)
		if err != nil {
			return cases.Got{}, err
		}
		return cases.GotEncoded(e), nil
	case messages.DownlinkDecoder:
		d, err := set.DecodeDownlink(t.Context(), f, c.Decode)
		return cases.GotDecoded(d), err
	}
	d, err := set.DecodeUplink(t.Context(), f, c.Decode)
	return cases.GotDecoded(d), err
}
