package jetstream

import (
	"fmt"
	"hash/fnv"
	"regexp"
	"strings"

	"lorikeet/messages"
)

// The streams of a namespace "lorikeet", and their subjects. Tokens are encoded by token, so that a subject is readable where ids are.
//
//	LORIKEET_J<n>  lorikeet.j.<n>.<application>.<device>  commits of a device: the last one holds its session record
//	               lorikeet.j.<n>.<application>.=         commits without a session record
//	               lorikeet.c.<n>.<application>           cut: the log of the application begins behind this Seq
//	LORIKEET_REG   lorikeet.r.<kind>.<id>                 registry documents
//	               lorikeet.k.check                       the sealed check record, by which a wrong key-encryption key is recognised; written when all streams are made
//	LORIKEET_CUR   lorikeet.u.<application>.<rest>        cursors
//	               lorikeet.u.=.store                     the identity of the store; here, since older versions stumble over it in the registry
//	LORIKEET_DIR   lorikeet.d.<application>.<device>      directory entries

const (
	escape   = '=' // begins the two hex digits of a byte that is not safe in a subject
	noDevice = "=" // in the place of a device or an application: a token that none has
)

var namespacePattern = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,31}$`)

func safe(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c == '-' || c == '_'
}

// token makes any text a token of a subject. The empty text is "==".
func token(s string) string {
	if s == "" {
		return "=="
	}
	unsafe := 0
	for i := range len(s) {
		if !safe(s[i]) {
			unsafe++
		}
	}
	if unsafe == 0 {
		return s
	}
	const digits = "0123456789ABCDEF"
	b := make([]byte, 0, len(s)+2*unsafe)
	for i := range len(s) {
		if c := s[i]; safe(c) {
			b = append(b, c)
		} else {
			b = append(b, escape, digits[c>>4], digits[c&15])
		}
	}
	return string(b)
}

// untoken is the inverse of token; false for what token never gives.
func untoken(t string) (string, bool) {
	if t == "==" {
		return "", true
	}
	if !strings.ContainsRune(t, escape) {
		return t, t != ""
	}
	b := make([]byte, 0, len(t))
	for i := 0; i < len(t); i++ {
		if t[i] != escape {
			b = append(b, t[i])
			continue
		}
		if i+2 >= len(t) {
			return "", false
		}
		high, low := unhex(t[i+1]), unhex(t[i+2])
		if high < 0 || low < 0 {
			return "", false
		}
		b = append(b, byte(high<<4|low))
		i += 2
	}
	s := string(b)
	return s, token(s) == t
}

func unhex(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c >= 'A' && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}

// tokens encodes a text with dots as several tokens.
func tokens(s string) string {
	parts := strings.Split(s, ".")
	for i, p := range parts {
		parts[i] = token(p)
	}
	return strings.Join(parts, ".")
}

func untokens(s string) (string, bool) {
	parts := strings.Split(s, ".")
	for i, p := range parts {
		text, ok := untoken(p)
		if !ok {
			return "", false
		}
		parts[i] = text
	}
	return strings.Join(parts, "."), true
}

// names makes the names of streams and subjects of a namespace.
type names struct {
	ns, upper string
	journals  int
}

func (n names) registry() string     { return n.upper + "_REG" }
func (n names) cursors() string      { return n.upper + "_CUR" }
func (n names) directory() string    { return n.upper + "_DIR" }
func (n names) journal(i int) string { return fmt.Sprintf("%s_J%d", n.upper, i) }

// shard says which journal has the application. It must never change.
func (n names) shard(app string) int {
	h := fnv.New32a()
	_, _ = h.Write([]byte(app))
	return int(h.Sum32() % uint32(n.journals))
}

func (n names) app(app string) string {
	return fmt.Sprintf("%s.j.%d.%s", n.ns, n.shard(app), token(app))
}

// log matches every commit of an application.
func (n names) log(app string) string { return n.app(app) + ".*" }

// history matches every commit that may have events of a device, or of any if it is "".
func (n names) history(app, device string) []string {
	if device == "" {
		return []string{n.log(app)}
	}
	return []string{n.device(messages.DeviceID{ApplicationID: app, DeviceID: device}), n.eventsOnly(app)}
}

func (n names) device(id messages.DeviceID) string {
	return n.app(id.ApplicationID) + "." + token(id.DeviceID)
}

func (n names) eventsOnly(app string) string { return n.app(app) + "." + noDevice }

func (n names) cut(app string) string {
	return fmt.Sprintf("%s.c.%d.%s", n.ns, n.shard(app), token(app))
}

// parseJournal gives the application and the device of a journal subject. Without a device: a commit without a session record, or (cut) a cut.
func (n names) parseJournal(subject string) (id messages.DeviceID, cut, ok bool) {
	rest, ok := strings.CutPrefix(subject, n.ns+".")
	parts := strings.Split(rest, ".")
	if !ok || len(parts) < 3 {
		return id, false, false
	}
	cut = parts[0] == "c"
	if id.ApplicationID, ok = untoken(parts[2]); !ok {
		return id, cut, false
	}
	switch {
	case cut && len(parts) == 3:
		return id, true, true
	case parts[0] != "j" || len(parts) != 4:
		return id, cut, false
	case parts[3] == noDevice:
		return id, false, true
	}
	id.DeviceID, ok = untoken(parts[3])
	return id, false, ok && id.DeviceID != ""
}

func (n names) document(kind messages.Kind, id string) string {
	return n.ns + ".r." + token(string(kind)) + "." + tokens(id)
}

func (n names) parseDocument(subject string) (kind messages.Kind, id string, ok bool) {
	rest, ok := strings.CutPrefix(subject, n.ns+".r.")
	k, rest, ok2 := strings.Cut(rest, ".")
	if !ok || !ok2 {
		return "", "", false
	}
	text, ok := untoken(k)
	id, ok2 = untokens(rest)
	return messages.Kind(text), id, ok && ok2
}

func (n names) check() string    { return n.ns + ".k.check" }
func (n names) identity() string { return n.ns + ".u." + noDevice + ".store" }

// cursor is the subject of the cursor with a name "application/rest".
func (n names) cursor(name string) string {
	app, rest, _ := strings.Cut(name, "/")
	return n.ns + ".u." + token(app) + "." + token(rest)
}

func (n names) entry(id messages.DeviceID) string {
	return n.ns + ".d." + token(id.ApplicationID) + "." + token(id.DeviceID)
}

func (n names) parseEntry(subject string) (messages.DeviceID, bool) {
	rest, ok := strings.CutPrefix(subject, n.ns+".d.")
	app, dev, ok2 := strings.Cut(rest, ".")
	a, ok3 := untoken(app)
	d, ok4 := untoken(dev)
	return messages.DeviceID{ApplicationID: a, DeviceID: d}, ok && ok2 && ok3 && ok4
}
