package main

import (
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

const top = "../.." // of the source

// pages gives the documents for people by their path.
func pages(t *testing.T) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, pattern := range []string{"*.md", "docs/*.md"} {
		files, err := filepath.Glob(filepath.Join(top, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			text, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			out[f] = string(text)
		}
	}
	if len(out) < 10 {
		t.Fatalf("only %d pages found", len(out))
	}
	return out
}

// fence is a block of code.
var fence = regexp.MustCompile("(?ms)^```.*?^```")

// anchors of a page, as the usual renderers make them of headings.
func anchors(page string) (out []string) {
	strange := regexp.MustCompile(`[^\p{L}\p{N}\- _]`)
	for _, m := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(fence.ReplaceAllString(page, ""), -1) {
		out = append(out, strings.ReplaceAll(strange.ReplaceAllString(strings.ToLower(m[1]), ""), " ", "-"))
	}
	return out
}

func TestLinksOfTheDocumentsLeadSomewhere(t *testing.T) {
	t.Parallel()
	all, n := pages(t), 0
	for path, text := range all {
		for _, m := range regexp.MustCompile(`\]\(([^)\s]+)\)`).FindAllStringSubmatch(fence.ReplaceAllString(text, ""), -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			n++
			file, anchor, _ := strings.Cut(m[1], "#")
			target := path
			if file != "" {
				target = filepath.Join(filepath.Dir(path), file)
			}
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s: %s: %v", path, m[1], err)
			} else if anchor != "" && !slices.Contains(anchors(all[target]), anchor) {
				t.Errorf("%s: no heading in %s has the anchor #%s", path, target, anchor)
			}
		}
	}
	if n < 20 {
		t.Errorf("only %d links found", n)
	}
}

func TestSettingsInTheDocumentsExist(t *testing.T) {
	t.Parallel()
	c := DefaultConfig()
	var keys, sections []string
	env := slices.Clone(otherVariables)
	c.each(func(path, doc string, _ reflect.Value) {
		if doc == "" {
			t.Errorf("%s: say what it means in a doc tag", path)
		}
		keys, env = append(keys, path), append(env, variables(path)...)
		if section, _, ok := strings.Cut(path, "."); ok && !slices.Contains(sections, section) {
			sections = append(sections, section)
		}
	})
	setting := regexp.MustCompile("`((?:" + strings.Join(sections, "|") + `)\.[a-z_]+)[` + "`:]")
	for path, text := range pages(t) {
		for _, m := range setting.FindAllStringSubmatch(text, -1) {
			// In this page mqtt.… and nats.… are members of an integration.
			member := strings.HasSuffix(path, "integrations.md") && (strings.HasPrefix(m[1], "mqtt.") || strings.HasPrefix(m[1], "nats."))
			if !member && !slices.Contains(keys, m[1]) {
				t.Errorf("%s: there is no setting %s", path, m[1])
			}
		}
		for _, name := range regexp.MustCompile(`LORIKEET_[A-Z_]*[A-Z]`).FindAllString(text, -1) {
			if !slices.Contains(env, name) {
				t.Errorf("%s: no variable %s is read", path, name)
			}
		}
	}
}

// metricNames gives all metrics of a lone server, and those of a cluster as far as they stand whole in the source.
func metricNames(t *testing.T) []string {
	t.Helper()
	cfg := DefaultConfig()
	cfg.Data, cfg.HTTP.Listen, cfg.MQTT.Listen, cfg.UDP.Listen, cfg.Scripts.Workers = t.TempDir(), "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0", 1
	s, err := startServer(t.Context(), cfg, slog.New(slog.DiscardHandler), io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close(t.Context())
	described := make(chan *prometheus.Desc)
	go func() {
		defer close(described)
		s.metrics.Describe(described)
	}()
	var names []string
	for d := range described {
		if m := regexp.MustCompile(`fqName: "(lorikeet_\w+)"`).FindStringSubmatch(d.String()); m != nil {
			names = append(names, m[1])
		}
	}
	literal := regexp.MustCompile(`"(lorikeet_(?:cluster|store)_\w+)"`)
	for _, folder := range []string{"cluster", "persistence"} {
		err := filepath.WalkDir(filepath.Join(top, folder), func(path string, _ fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			text, err := os.ReadFile(path)
			for _, m := range literal.FindAllStringSubmatch(string(text), -1) {
				names = append(names, m[1])
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func TestMetricsAreDocumented(t *testing.T) {
	t.Parallel()
	names, all := metricNames(t), ""
	for path, text := range pages(t) {
		all += text
		for _, name := range regexp.MustCompile(`lorikeet_[a-z0-9_]+`).FindAllString(text, -1) {
			if !strings.HasSuffix(name, "_") && !slices.Contains(names, name) { // lorikeet_cluster_* stands for several
				t.Errorf("%s: there is no metric %s", path, name)
			}
		}
	}
	for _, name := range names {
		if !regexp.MustCompile("`" + name + "[`{]").MatchString(all) {
			t.Errorf("metric %s is in none of the documents", name)
		}
	}
	if len(names) < 40 {
		t.Errorf("only %d metrics found", len(names))
	}
}
