package rest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"strconv"
	"strings"

	"lorikeet/messages"
	v3 "lorikeet/messages/v3"
)

const (
	maxBody  = 2 << 20 // bytes; holds a device or link with two scripts of the largest size
	maxDepth = 100     // of nested objects and lists
)

// byteOrderMark stands before the text in files of some editors.
var byteOrderMark = []byte("\uFEFF")

// body reads the whole body as one JSON value in snake_case.
func (c *call) body() ([]byte, error) {
	b, err := c.rawBody()
	if err != nil {
		return nil, err
	}
	return settleBody(b)
}

// rawBody reads the whole body, whatever it is.
func (c *call) rawBody() ([]byte, error) {
	if enc := c.Request().Header.Get("Content-Encoding"); enc != "" && !strings.EqualFold(enc, "identity") {
		return nil, messages.Invalid("content_encoding", "the body is encoded as %q: send it as it is", shorten(enc))
	}
	if c.Request().ContentLength > maxBody { // a client that asks with Expect: 100-continue need not send it
		return nil, &http.MaxBytesError{Limit: maxBody}
	}
	b, err := io.ReadAll(http.MaxBytesReader(c.Response(), c.Request().Body, maxBody))
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return nil, err
	case err != nil: // the client's connection, not ours
		return nil, messages.Invalid("read_body", "the body did not arrive whole: send it again")
	}
	return b, nil
}

func settleBody(b []byte) ([]byte, error) {
	b = bytes.TrimPrefix(b, byteOrderMark)
	if len(bytes.TrimSpace(b)) == 0 {
		return nil, messages.Invalid("empty_body", "the body is empty: send JSON")
	}
	if v3.TooDeep(b, maxDepth) {
		return nil, messages.Invalid("decode_body", "the body is nested deeper than %d levels: send a flatter document", maxDepth)
	}
	out, err := v3.SnakeCase(b)
	if err != nil {
		return nil, messages.Invalid("decode_body", "the body is not JSON: %v", err)
	}
	return out, nil
}

// decodeBody reads a body that is one T, and warns of members that T does not know.
func decodeBody[T any](c *call) (v T, err error) {
	b, err := c.body()
	if err != nil {
		return v, err
	}
	if b, err = c.server.cfg.Input.Settle("", b, reflect.TypeFor[T]()); err != nil {
		return v, err
	}
	v, unknown, err := decodeValue[T]("", b)
	c.warn(unknown)
	return v, err
}

// decodeValue reads a T. The error names the member that is wrong. unknown are the members that T does not know.
func decodeValue[T any](name string, raw []byte) (v T, unknown []string, err error) {
	t := reflect.TypeFor[T]()
	if err := json.Unmarshal(raw, &v); err != nil {
		var zero T
		path, err := locate(raw, t)
		if path = join(name, path); path == "" {
			path = "body"
		}
		return zero, nil, messages.Invalid("decode_body", "%s: %s", path, plain(err))
	}
	return v, unknownMembers(name, raw, t), nil
}

// request is the body of a write: the entity and which of its fields are meant.
type request[T any] struct {
	value  T
	fields tree
	paths  []string // nil: those that are present
}

// decodeRequest reads {"<member>":{…},"field_mask":{"paths":[…]}}.
func decodeRequest[T any](c *call, member string) (request[T], error) {
	b, err := c.body()
	if err != nil {
		return request[T]{}, err
	}
	r, unknown, err := parseRequest[T](b, member, c.server.cfg.Input)
	c.warn(unknown)
	return r, err
}

func parseRequest[T any](b []byte, member string, input v3.Input) (r request[T], unknown []string, err error) {
	var parts map[string]json.RawMessage
	if json.Unmarshal(b, &parts) != nil || len(parts[member]) == 0 || parts[member][0] != '{' {
		return r, nil, messages.Invalid("no_"+member, `the body has no object "%s": send {"%s":{…}}`, member, member)
	}
	if raw, ok := parts["field_mask"]; ok && !bytes.Equal(raw, []byte("null")) {
		mask, _, err := decodeValue[v3.FieldMask]("field_mask", raw)
		if err != nil {
			return r, nil, err
		}
		if r.paths, err = settlePaths(mask.Paths); err != nil {
			return r, nil, err
		}
		if len(r.paths) == 0 { // as good as none, to The Things Stack as well
			r.paths = nil
		}
	}
	t := reflect.TypeFor[T]()
	if parts[member], err = input.Settle(member, parts[member], t); err != nil {
		return r, nil, err
	}
	unknown = unknownMembers(member, parts[member], t)
	for _, p := range r.paths {
		if !knownPath(strings.Split(p, "."), t) {
			unknown = append(unknown, "field_mask."+p)
		}
	}
	all, err := decodeTree(parts[member])
	if err != nil {
		return r, unknown, err
	}
	// encoding/json takes "ROOT_KEYS" for root_keys. What a caller may write is decided by exact names, so other spellings must not come through.
	r.fields, _ = onlyKnown(all, t).(tree)
	exact, err := json.Marshal(r.fields)
	if err != nil {
		return r, unknown, fmt.Errorf("encode %s: %w", member, err)
	}
	r.value, _, err = decodeValue[T](member, exact)
	return r, unknown, err
}

// onlyKnown gives v without the members that t has no field for. Types that read themselves keep what they get.
func onlyKnown(v any, t reflect.Type) any {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if reflect.PointerTo(t).Implements(unmarshaler) {
		return v
	}
	switch v := v.(type) {
	case tree:
		out := tree{}
		switch t.Kind() {
		case reflect.Struct:
			for _, m := range membersOf(t) {
				if value, ok := v[m.name]; ok {
					out[m.name] = onlyKnown(value, m.typ)
				}
			}
			return out
		case reflect.Map:
			for name, value := range v {
				out[name] = onlyKnown(value, t.Elem())
			}
			return out
		}
	case []any:
		if t.Kind() == reflect.Slice {
			out := make([]any, len(v))
			for i, value := range v {
				out[i] = onlyKnown(value, t.Elem())
			}
			return out
		}
	}
	return v
}

// locate finds the member of raw that can't be read into a t.
func locate(raw []byte, t reflect.Type) (path string, err error) {
	if err = json.Unmarshal(raw, reflect.New(t).Interface()); err == nil {
		return "", nil
	}
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch t.Kind() {
	case reflect.Struct:
		var members map[string]json.RawMessage
		if json.Unmarshal(raw, &members) != nil {
			return "", err
		}
		for _, f := range membersOf(t) {
			if member, ok := members[f.name]; ok {
				if sub, err := locate(member, f.typ); err != nil {
					return join(f.name, sub), err
				}
			}
		}
	case reflect.Slice:
		var items []json.RawMessage
		if json.Unmarshal(raw, &items) != nil {
			return "", err
		}
		for i, item := range items {
			if sub, err := locate(item, t.Elem()); err != nil {
				return strings.TrimSuffix("["+strconv.Itoa(i)+"]."+sub, "."), err
			}
		}
	case reflect.Map:
		var members map[string]json.RawMessage
		if json.Unmarshal(raw, &members) != nil {
			return "", err
		}
		for name, member := range members {
			if sub, err := locate(member, t.Elem()); err != nil {
				return join(shorten(name), sub), err
			}
		}
	}
	return "", err
}

type member struct {
	name string
	typ  reflect.Type
}

// membersOf lists the JSON members of a struct type.
func membersOf(t reflect.Type) []member {
	var out []member
	for f := range t.Fields() {
		if name, _, _ := strings.Cut(f.Tag.Get("json"), ","); name != "" && name != "-" {
			out = append(out, member{name, f.Type})
		}
	}
	return out
}

func join(a, b string) string {
	switch {
	case a == "":
		return b
	case b == "" || b[0] == '[':
		return a + b
	}
	return a + "." + b
}

// plain says what is wrong in the words of JSON, without the member, which locate finds.
func plain(err error) string {
	_, problem := v3.Problem(err)
	return problem
}

var unmarshaler = reflect.TypeFor[json.Unmarshaler]()

// unknownMembers lists what the type has no field for. Types that read themselves keep or refuse what they get.
func unknownMembers(name string, raw []byte, t reflect.Type) []string {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	var out []string
	switch {
	case reflect.PointerTo(t).Implements(unmarshaler):
	case t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Struct:
		var items []json.RawMessage
		_ = json.Unmarshal(raw, &items)
		for i, item := range items {
			out = append(out, unknownMembers(name+"["+strconv.Itoa(i)+"]", item, t.Elem())...)
		}
	case t.Kind() == reflect.Struct:
		var members map[string]json.RawMessage
		_ = json.Unmarshal(raw, &members)
		for _, f := range membersOf(t) {
			if value, ok := members[f.name]; ok {
				delete(members, f.name)
				out = append(out, unknownMembers(join(name, f.name), value, f.typ)...)
			}
		}
		for unknown := range members {
			out = append(out, join(name, unknown))
		}
	}
	return out
}

// knownPath says whether a path of a field mask leads to a member of the type.
func knownPath(path []string, t reflect.Type) bool {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch {
	case len(path) == 0 || path[0] == everything || reflect.PointerTo(t).Implements(unmarshaler) || t.Kind() == reflect.Map:
		return true
	case t.Kind() == reflect.Slice:
		return knownPath(path, t.Elem())
	case t.Kind() != reflect.Struct:
		return false
	}
	for _, m := range membersOf(t) {
		if m.name == path[0] {
			return knownPath(path[1:], m.typ)
		}
	}
	return false
}

// maxWarnings bounds the header.
const maxWarnings = 10

// warn tells the client which members of its body were not understood; they are accepted, since newer clients send more.
func (c *call) warn(unknown []string) {
	shown := 0
	for _, name := range unknown {
		if shown == maxWarnings || len(name) > 100 || strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r > '~' }) {
			continue
		}
		c.Response().Header().Add("X-Warning", "unknown field "+name+" ignored")
		shown++
	}
}
