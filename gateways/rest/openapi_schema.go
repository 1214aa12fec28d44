package rest

import (
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"lorikeet/messages"
	v3 "lorikeet/messages/v3"
)

// shape makes the schema of a body.
type shape func(*schemas) any

// one is the schema of a T.
func one[T any]() shape { return func(s *schemas) any { return s.schema(reflect.TypeFor[T]()) } }

// list is {"<member>":[…]}.
func list[T any](member string) shape { return listOf(member, one[T]()) }

// write is {"<member>":{…},"field_mask":{…}}.
func write[T any](member string) shape {
	return func(s *schemas) any {
		out := object(tree{member: s.schema(reflect.TypeFor[T]()), "field_mask": s.schema(reflect.TypeFor[v3.FieldMask]())})
		out["required"] = []any{member}
		return out
	}
}

// extended is the schema of a T with more members, which the handler adds.
func extended[T any](more tree) shape {
	return func(s *schemas) any {
		properties := s.properties(reflect.TypeFor[T]())
		maps.Copy(properties, more)
		return object(properties)
	}
}

// holding is {"<name>":…} of a T.
func holding[T any](name string) shape {
	return func(s *schemas) any { return object(tree{name: one[T]()(s)}) }
}

// listOf is {"<member>":[…]} of what item describes.
func listOf(member string, item shape) shape {
	return func(s *schemas) any {
		return object(tree{member: tree{"type": "array", "items": item(s)}})
	}
}

// empty is {}.
func empty(*schemas) any { return object(tree{}) }

// text is not JSON.
func text(*schemas) any { return tree{"type": "string"} }

func object(properties tree) tree { return tree{"type": "object", "properties": properties} }

// schemas collects those of struct types by name.
type schemas struct {
	named tree
	types map[string]reflect.Type
}

func newSchemas() *schemas { return &schemas{named: tree{}, types: map[string]reflect.Type{}} }

// nameOf is the name of the type, with its package if another one has it.
func (s *schemas) nameOf(t reflect.Type) string {
	name := strings.ToUpper(t.Name()[:1]) + t.Name()[1:]
	if other, ok := s.types[name]; ok && other != t {
		name = t.PkgPath()[strings.LastIndexByte(t.PkgPath(), '/')+1:] + name
	}
	s.types[name] = t
	return name
}

func (s *schemas) of(make shape) any {
	if make == nil {
		make = empty
	}
	return make(s)
}

// known are types whose JSON is not what their Go type tells.
var known = map[reflect.Type]tree{
	reflect.TypeFor[v3.Bytes]():               {"type": "string", "contentEncoding": "base64"},
	reflect.TypeFor[v3.Uint64]():              {"type": "string", "pattern": "^[0-9]+$", "description": "A number as a string."},
	reflect.TypeFor[v3.Int64]():               {"type": "string", "pattern": "^-?[0-9]+$", "description": "A number as a string."},
	reflect.TypeFor[v3.Uint32]():              {"type": "integer", "minimum": 0, "maximum": 4294967295},
	reflect.TypeFor[v3.Duration]():            {"type": "string", "pattern": `^-?[0-9]+(\.[0-9]+)?s$`, "description": "Seconds with s: 0.056576s."},
	reflect.TypeFor[v3.BoolValue]():           {"type": "boolean"},
	reflect.TypeFor[v3.Secrets]():             {"type": []any{"string", "array"}, "items": tree{"type": "string"}, "description": "One secret, or several."},
	reflect.TypeFor[v3.HexKey]():              {"type": "string", "pattern": "^[0-9A-Fa-f]{32}$", "description": "An AES-128 key in hex."},
	reflect.TypeFor[v3.Priority]():            {"type": "string", "enum": texts(messages.PriorityNames[:])},
	reflect.TypeFor[v3.QoS]():                 {"type": "string", "enum": texts([]v3.QoS{"", v3.QoSAtMostOnce, v3.QoSAtLeastOnce, v3.QoSExactlyOnce})},
	reflect.TypeFor[messages.EUI64]():         {"type": "string", "pattern": "^[0-9A-Fa-f]{16}$", "description": "An EUI in hex."},
	reflect.TypeFor[messages.DevAddr]():       {"type": "string", "pattern": "^[0-9A-Fa-f]{8}$", "description": "An address in hex."},
	reflect.TypeFor[messages.Right]():         {"type": "string", "enum": rightNames()},
	reflect.TypeFor[messages.FormatterKind](): {"type": "string", "pattern": "^(FORMATTER_[A-Z_]+)?$"},
	reflect.TypeFor[time.Time]():              {"type": "string", "format": "date-time"},
	reflect.TypeFor[json.RawMessage]():        {"description": "Any JSON."},
}

func texts[T ~string](names []T) []any {
	out := []any{}
	for _, n := range names {
		out = append(out, string(n))
	}
	return out
}

func (s *schemas) schema(t reflect.Type) any {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if schema, ok := known[t]; ok {
		return schema
	}
	switch t.Kind() {
	case reflect.Bool:
		return tree{"type": "boolean"}
	case reflect.String:
		return tree{"type": "string"}
	case reflect.Float32, reflect.Float64:
		return tree{"type": "number"}
	case reflect.Slice, reflect.Array:
		return tree{"type": "array", "items": s.schema(t.Elem())}
	case reflect.Map:
		return tree{"type": "object", "additionalProperties": s.schema(t.Elem())}
	case reflect.Struct:
		return s.structure(t)
	case reflect.Interface:
		return tree{}
	}
	return tree{"type": "integer"}
}

// structure gives a reference, so that types may hold themselves. Types without a name are written out.
func (s *schemas) structure(t reflect.Type) any {
	if t.Name() == "" {
		return object(s.properties(t))
	}
	name := s.nameOf(t)
	if _, ok := s.named[name]; !ok {
		s.named[name] = tree{} // it may be in itself
		schema := object(s.properties(t))
		if slices.Contains(open, t) {
			schema["additionalProperties"] = true
		}
		s.named[name] = schema
	}
	return tree{"$ref": "#/components/schemas/" + name}
}

// open are types that keep members they have no field for.
var open = []reflect.Type{reflect.TypeFor[v3.MACSettings]()}

func (s *schemas) properties(t reflect.Type) tree {
	out := tree{}
	for f := range t.Fields() {
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case f.Anonymous && name == "":
			inner := f.Type
			if inner.Kind() == reflect.Pointer {
				inner = inner.Elem()
			}
			for n, schema := range s.properties(inner) {
				out[n] = schema
			}
		case name != "" && strings.Contains(options, "string"): // 64-bit integers
			out[name] = tree{"type": "string"}
		case name != "" && name != "-":
			out[name] = s.schema(f.Type)
		}
	}
	return out
}
