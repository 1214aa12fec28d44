package main

import (
	"errors"
	"fmt"
	"net"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"syscall"
)

// goodAddress says whether addr is host:port with a port that there is.
func goodAddress(addr string) bool {
	_, port, err := net.SplitHostPort(addr)
	if err == nil {
		_, err = net.LookupPort("tcp", port)
	}
	return err == nil
}

// listenHint adds to an error what to change if an address can't be listened on.
func listenHint(err error, flag, key string) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("%w; end the program that has the port, or use another one: --%s, or %s in the configuration", err, flag, key)
	case errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Errorf("%w; use another address: --%s, or %s in the configuration", err, flag, key)
	}
	return err
}

// These are how the YAML library tells its mistakes.
var (
	yamlHeading  = regexp.MustCompile(`yaml: unmarshal errors:\n\s*`)
	unknownField = regexp.MustCompile(`field (\S+) not found in type main\.(\w+)`)
	wrongType    = regexp.MustCompile(`cannot unmarshal !!\w+( .*)? into ([\w.]+)`)
)

// explainYAML says in the words of the configuration what is wrong in a file.
func (c *Config) explainYAML(err error) string {
	text := yamlHeading.ReplaceAllString(err.Error(), "")
	text = unknownField.ReplaceAllStringFunc(text, func(s string) string {
		m := unknownField.FindStringSubmatch(s)
		advice := `run "lorikeet config" for all keys`
		if key := c.closestKey(m[1], m[2]); key != "" {
			advice = fmt.Sprintf("did you mean %s? Run \"lorikeet config\" for all keys", key)
		}
		return fmt.Sprintf("unknown key %q; %s", m[1], advice)
	})
	return wrongType.ReplaceAllStringFunc(text, func(s string) string {
		m := wrongType.FindStringSubmatch(s)
		return strings.TrimSpace(fmt.Sprintf("the value%s is of the wrong type: use %s", m[1], wanted(m[2])))
	})
}

// wanted describes the values of a Go type.
func wanted(goType string) string {
	switch goType {
	case "time.Duration":
		return "a duration such as 200ms, 30s or 24h"
	case "bool":
		return "true or false"
	case "int", "int64":
		return "a whole number"
	case "string", "main.Secret":
		return "a text"
	case "main.KEKs":
		return "labels with their keys, {label: hex digits}"
	}
	return "a section of keys"
}

// closestKey gives the path of the key that was probably meant by a name that no key has in the section with the given type; "" if none is near.
func (c *Config) closestKey(name, goType string) string {
	choice := newChoice(name)
	root := reflect.TypeFor[Config]()
	for i := range root.NumField() {
		f := root.Field(i)
		section := f.Tag.Get("yaml")
		choice.consider(section, section, root.Name() == goType)
		if f.Type.Kind() != reflect.Struct {
			continue
		}
		for k := range f.Type.NumField() {
			key := f.Type.Field(k).Tag.Get("yaml")
			choice.consider(key, section+"."+key, f.Type.Name() == goType)
		}
	}
	return choice.best
}

// choice finds what was meant by a name.
type choice struct {
	name, best string
	least      int
}

// newChoice allows a third of the letters to be wrong, one at least.
func newChoice(name string) choice {
	return choice{name: strings.ToLower(name), least: 2*max(len(name)/3, 1) + 2}
}

// consider takes answer for the best if candidate is nearer to the name than what came before; of two as near, one that is likely.
func (c *choice) consider(candidate, answer string, likely bool) {
	d := 2 * distance(c.name, strings.ToLower(candidate))
	if !likely {
		d++
	}
	if d < c.least {
		c.best, c.least = answer, d
	}
}

// distance is how many letters have to be added, left out, changed, or swapped with their neighbour to make b of a.
func distance(a, b string) int {
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			change := rows[i-1][j-1]
			if a[i-1] != b[j-1] {
				change++
			}
			rows[i][j] = min(rows[i-1][j]+1, rows[i][j-1]+1, change)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				rows[i][j] = min(rows[i][j], rows[i-2][j-2]+1)
			}
		}
	}
	return rows[len(a)][len(b)]
}

// otherVariables are read by commands, not as keys of the configuration.
var otherVariables = []string{"LORIKEET_CONFIG", "LORIKEET_SERVER", "LORIKEET_API_KEY", "LORIKEET_PASSPHRASE"}

// notForUs are the variables that Kubernetes sets for a service named lorikeet, and those of the tests.
var notForUs = regexp.MustCompile(`_SERVICE_HOST$|_SERVICE_PORT(_|$)|_PORT(_\d+_(TCP|UDP|SCTP)(_|$)|$)|^LORIKEET_TEST_`)

// variables are the environment variables of a key, the long name first. Listen addresses have a short one too.
func variables(path string) []string {
	names := []string{"LORIKEET_" + strings.ToUpper(strings.ReplaceAll(path, ".", "_"))}
	if short, ok := strings.CutSuffix(names[0], "_LISTEN"); ok {
		names = append(names, short)
	}
	return names
}

// unknownVariables gives those of an environment that look as if they were for the server and are not read, each with what was probably meant ("" if
// nothing is near). It says nothing of their values.
func (c *Config) unknownVariables(environ []string) (out [][2]string) {
	known := slices.Clone(otherVariables)
	c.each(func(path, _ string, _ reflect.Value) { known = append(known, variables(path)...) })
	for _, v := range environ {
		name, _, _ := strings.Cut(v, "=")
		if !strings.HasPrefix(name, "LORIKEET_") || slices.Contains(known, name) || notForUs.MatchString(name) {
			continue
		}
		choice := newChoice(strings.TrimPrefix(name, "LORIKEET_"))
		for _, k := range known {
			choice.consider(strings.TrimPrefix(k, "LORIKEET_"), k, true)
		}
		out = append(out, [2]string{name, choice.best})
	}
	slices.SortFunc(out, func(a, b [2]string) int { return strings.Compare(a[0], b[0]) })
	return out
}
