package rest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	"lorikeet/messages"
)

// tree is an entity as decoded JSON. Numbers are json.Number, so that none loses a digit.
type tree = map[string]any

const (
	maxPaths     = 500
	maxPathDepth = 16
)

func decodeTree(raw []byte) (t tree, err error) {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	if err := dec.Decode(&t); err != nil {
		return nil, messages.Invalid("decode_body", "want an object: %s", plain(err))
	}
	return t, nil
}

func toTree(v any) (tree, error) {
	raw, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode %T: %w", v, err)
	}
	return decodeTree(raw)
}

func fromTree[T any](t tree) (v T, err error) {
	raw, err := json.Marshal(t)
	if err != nil {
		return v, fmt.Errorf("encode %T: %w", v, err)
	}
	v, _, err = decodeValue[T]("", raw)
	return v, err
}

// settlePaths checks the paths of a field mask and gives them in snake_case. The result is not nil.
func settlePaths(paths []string) ([]string, error) {
	out := make([]string, 0, len(paths))
	if len(paths) > maxPaths {
		return nil, messages.Invalid("invalid_field_mask", "the field mask has %d paths: use at most %d", len(paths), maxPaths)
	}
	for _, p := range paths {
		if p = strings.TrimSpace(p); p == "" {
			continue
		}
		if strings.Count(p, ".") >= maxPathDepth || strings.Contains(p, "..") || strings.HasPrefix(p, ".") || strings.HasSuffix(p, ".") {
			return nil, messages.Invalid("invalid_field_mask", "path %q of the field mask: write member names with dots between, e.g. session.dev_addr", shorten(p))
		}
		out = append(out, snakePath(p))
	}
	return out, nil
}

func snakePath(p string) string {
	var b strings.Builder
	for i, r := range p {
		if r >= 'A' && r <= 'Z' {
			if i > 0 && p[i-1] != '.' && p[i-1] != '_' {
				b.WriteByte('_')
			}
			r += 'a' - 'A'
		}
		b.WriteRune(r)
	}
	return b.String()
}

// readPaths gives the paths of the query's field_mask; nil if there is none. "*" means everything.
func (c *call) readPaths() ([]string, error) {
	var paths []string
	for _, name := range []string{"field_mask", "field_mask.paths", "fieldMask", "fieldMask.paths"} {
		for _, value := range c.QueryParams()[name] {
			paths = append(paths, strings.Split(value, ",")...)
		}
	}
	if len(paths) == 0 {
		return nil, nil
	}
	return settlePaths(paths)
}

// everything is the path that selects all fields of an entity; The Things Stack has no such path.
const everything = "*"

// always are the fields that every answer has.
var always = []string{"ids", "created_at", "updated_at"}

// filter keeps the fields that paths name, and those that are always there.
func filter(t tree, paths []string) tree {
	out := tree{}
	for _, p := range append(always, paths...) {
		if p == everything {
			return t
		}
		copyPath(out, t, strings.Split(p, "."))
	}
	return out
}

// copyPath copies what is at path. Lists are copied whole.
func copyPath(to, from tree, path []string) {
	value, ok := from[path[0]]
	if !ok {
		return
	}
	inner, isTree := value.(tree)
	if len(path) == 1 || !isTree {
		to[path[0]] = value
		return
	}
	next, ok := to[path[0]].(tree)
	if !ok {
		next = tree{}
		to[path[0]] = next
	}
	copyPath(next, inner, path[1:])
}

// lookup gives what is at path.
func lookup(t tree, path []string) (any, bool) {
	value, ok := t[path[0]]
	if !ok || len(path) == 1 {
		return value, ok && value != nil
	}
	inner, ok := value.(tree)
	if !ok {
		return nil, false
	}
	return lookup(inner, path[1:])
}

// assign puts value at path, or takes away what is there if ok is false.
func assign(t tree, path []string, value any, ok bool) {
	if len(path) == 1 {
		if ok {
			t[path[0]] = value
		} else {
			delete(t, path[0])
		}
		return
	}
	next, isTree := t[path[0]].(tree)
	if !isTree {
		if !ok {
			return
		}
		next = tree{}
		t[path[0]] = next
	}
	assign(next, path[1:], value, ok)
}

// whole are members that are replaced as one when a request without a field mask holds them: their own members are the user's, or mean something only
// together.
var whole = map[string]bool{
	"attributes": true, "headers": true, "locations": true, "template_fields": true, "template_ids": true, "provisioning_data": true, "picture": true,
	"claim_authentication_code": true, "lora_alliance_profile_ids": true, "field_mask": true, "downlink_push": true, "downlink_replace": true,
	"rx1_delay": true, "desired_rx1_delay": true, "rx1_data_rate_offset": true, "rx2_data_rate_index": true,
}

// apply changes t as a write request says: the named paths, or without a mask the fields that are present. A null takes the field away.
func apply(t, fields tree, paths []string) {
	if paths == nil {
		merge(t, fields)
		return
	}
	for _, p := range paths {
		if p == everything {
			merge(t, fields)
			continue
		}
		path := strings.Split(p, ".")
		value, ok := lookup(fields, path)
		assign(t, path, value, ok)
	}
}

func merge(t, fields tree) {
	for name, value := range fields {
		inner, isTree := value.(tree)
		old, wasTree := t[name].(tree)
		switch {
		case value == nil:
			delete(t, name)
		case isTree && wasTree && !whole[name] && !isEventType(name):
			merge(old, inner)
		default:
			t[name] = value
		}
	}
}

func isEventType(name string) bool {
	for _, t := range messages.EventTypes {
		if string(t) == name {
			return true
		}
	}
	return false
}

// names says whether a write names a field at path, above it or below it, and has something there.
func (r request[T]) names(path string) bool {
	if r.paths == nil {
		_, ok := lookup(r.fields, strings.Split(path, "."))
		return ok
	}
	return overlaps(r.paths, path)
}

// overlaps says whether one of paths is path, lies below it or contains it.
func overlaps(paths []string, path string) bool {
	for _, p := range paths {
		if p == everything || p == path || strings.HasPrefix(p, path+".") || strings.HasPrefix(path, p+".") {
			return true
		}
	}
	return false
}

// change gives a change function that applies the request to an entity as JSON.
func (r request[T]) change() func(*T) error {
	return func(v *T) error {
		t, err := toTree(v)
		if err != nil {
			return err
		}
		apply(t, r.fields, r.paths)
		next, err := fromTree[T](t)
		if err == nil {
			*v = next
		}
		return err
	}
}
