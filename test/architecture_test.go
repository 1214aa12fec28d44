// Package test looks at Lorikeet from outside: its imports, and the real binary with real clients.
package test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// mayImport says for each package of ours which others it may import: itself and below are always allowed to see "messages".
// "*" is everything. A package that is missing here fails the test: name it and say whom it may see.
var mayImport = map[string][]string{
	"cmd/lorikeet":                     {"*"},
	"cmd/lorikeet/simulator":           {},
	"actors":                           {"actors/device", "actors/radiogateway"},
	"actors/device":                    {},
	"actors/radiogateway":              {},
	"cluster":                          {},
	"cluster/node":                     {"cluster"},
	"messages":                         {},
	"messages/frame":                   {},
	"messages/record":                  {},
	"messages/v3":                      {},
	"messages/v3/pb":                   {},
	"messages/wire":                    {},
	"formatters":                       {"formatters/lua", "formatters/javascript", "formatters/cayennelpp", "formatters/normalized"},
	"formatters/cayennelpp":            {},
	"formatters/formatterstest":        {"formatters"},
	"formatters/javascript":            {},
	"formatters/lua":                   {"formatters/cayennelpp"},
	"formatters/normalized":            {},
	"persistence":                      {},
	"persistence/badger":               {"persistence"},
	"persistence/jetstream":            {"persistence"},
	"persistence/jetstream/natsserver": {},
	"persistence/memory":               {"persistence"},
	"persistence/migrate":              {},
	"persistence/persistencetest":      {"persistence", "persistence/memory"},
	"persistence/registry":             {"persistence"},
	"gateways":                         {},
	"gateways/broker":                  {"gateways"},
	"gateways/mqttclient":              {"gateways"},
	"gateways/natsclient":              {"gateways"},
	"gateways/radio/semtechudp":        {},
	"gateways/rest":                    {"gateways"},
	"gateways/webhook":                 {"gateways"},
	"test":                             {"*"},
}

// pure packages reach no clock, disk, network, log, randomness or actor system.
var pure = []string{"actors/device", "actors/radiogateway", "messages/frame"}

var impure = []string{"os", "net", "net/http", "math/rand", "math/rand/v2", "crypto/rand", "log", "log/slog", "context", "sync", "github.com/asynkron/protoactor-go"}

type source struct {
	folder, file string
	imports      []string
	hasDoc, test bool
	callsNow     bool
}

func sources(t *testing.T) []source {
	t.Helper()
	var out []source
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (strings.HasPrefix(d.Name(), ".") && d.Name() != ".." || d.Name() == "testdata" || d.Name() == "bin") {
			return filepath.SkipDir
		}
		if !strings.HasSuffix(path, ".go") {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, text, parser.ImportsOnly|parser.ParseComments)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel("..", filepath.Dir(path))
		if err != nil {
			return err
		}
		s := source{folder: filepath.ToSlash(rel), file: path, hasDoc: f.Doc != nil, test: strings.HasSuffix(path, "_test.go"),
			callsNow: strings.Contains(string(text), "time.Now(") || strings.Contains(string(text), "time.After") || strings.Contains(string(text), "time.NewTimer(")}
		for _, i := range f.Imports {
			name, err := strconv.Unquote(i.Path.Value)
			if err != nil {
				return err
			}
			s.imports = append(s.imports, name)
		}
		out = append(out, s)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(out) < 50 {
		t.Fatalf("only %d source files found", len(out))
	}
	return out
}

func TestImportsRunOneWay(t *testing.T) {
	t.Parallel()
	for _, s := range sources(t) {
		allowed, known := mayImport[s.folder]
		if !known {
			t.Errorf("%s: name this package in mayImport, with what it may import", s.folder)
			continue
		}
		for _, name := range s.imports {
			ours, ok := strings.CutPrefix(name, "lorikeet/")
			if !ok || s.test || slices.Contains(allowed, "*") || slices.Contains(allowed, ours) {
				continue
			}
			if ours == "messages" || strings.HasPrefix(ours, "messages/") {
				continue
			}
			t.Errorf("%s imports %s: siblings meet only in cmd/lorikeet; declare an interface where it is called", s.file, name)
		}
	}
}

func TestPurePackagesReachNothing(t *testing.T) {
	t.Parallel()
	seen := 0
	for _, s := range sources(t) {
		if !slices.Contains(pure, s.folder) || s.test {
			continue
		}
		seen++
		for _, name := range s.imports {
			for _, bad := range impure {
				if name == bad || strings.HasPrefix(name, bad+"/") {
					t.Errorf("%s is pure but imports %s: let it come in with the command", s.file, name)
				}
			}
		}
		if s.callsNow {
			t.Errorf("%s is pure but asks the clock: let the time come in with the command", s.file)
		}
	}
	if seen < 5 {
		t.Fatalf("only %d pure files found", seen)
	}
}

func TestEveryPackageSaysWhatItIs(t *testing.T) {
	t.Parallel()
	doc := map[string]bool{}
	for _, s := range sources(t) {
		if !s.test || s.folder == "test" {
			doc[s.folder] = doc[s.folder] || s.hasDoc
		}
	}
	for folder, ok := range doc {
		if !ok {
			t.Errorf("%s has no package comment", folder)
		}
	}
}
