package lua

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"

	vm "github.com/yuin/gopher-lua"
)

// reader turns JSON into Lua values: null becomes json.null, so that lists keep their places and what is written again is the same.
type reader struct {
	*run
	vm    *vm.LState
	dec   *json.Decoder
	depth int
}

// fromJSON reads one JSON document.
func (s *session) fromJSON(text []byte) (vm.LValue, error) {
	return readJSON(s.vm, s.run, string(text))
}

func readJSON(l *vm.LState, r *run, text string) (vm.LValue, error) {
	rd := reader{run: r, vm: l, dec: json.NewDecoder(strings.NewReader(text))}
	v, err := rd.value()
	if err != nil {
		return nil, err
	}
	if _, err := rd.dec.Token(); err != io.EOF {
		return nil, fmt.Errorf("there is more after the JSON value")
	}
	return v, nil
}

func (r *reader) value() (vm.LValue, error) {
	if err := r.spend(16); err != nil {
		return nil, err
	}
	token, err := r.dec.Token()
	if err == io.EOF {
		return nil, io.ErrUnexpectedEOF
	}
	if err != nil {
		return nil, err
	}
	switch t := token.(type) {
	case json.Delim:
		if r.depth++; r.depth > maxDepth {
			return nil, fmt.Errorf("nested more than %d deep", maxDepth)
		}
		defer func() { r.depth-- }()
		if t == '[' {
			return r.array()
		}
		return r.object()
	case string:
		if len(t) > maxString {
			return nil, fmt.Errorf("a string of %d bytes is too long: at most %d", len(t), maxString)
		}
		return vm.LString(t), nil
	case float64:
		return vm.LNumber(t), nil
	case bool:
		return vm.LBool(t), nil
	default:
		return jsonNull, nil
	}
}

func (r *reader) array() (vm.LValue, error) {
	out := r.vm.CreateTable(0, 0)
	for i := 1; r.dec.More(); i++ {
		if i >= maxArray {
			return nil, fmt.Errorf("an array has more than %d elements", maxArray-1)
		}
		v, err := r.value()
		if err != nil {
			return nil, err
		}
		out.RawSetInt(i, v)
	}
	// Without it an empty array would be written as an object.
	if out.Len() == 0 {
		r.setShape(out, arrayShape)
	}
	_, err := r.dec.Token()
	return out, err
}

func (r *reader) object() (vm.LValue, error) {
	out := r.vm.CreateTable(0, 0)
	for r.dec.More() {
		key, err := r.dec.Token()
		if err != nil {
			return nil, err
		}
		v, err := r.value()
		if err != nil {
			return nil, err
		}
		out.RawSetString(key.(string), v)
	}
	_, err := r.dec.Token()
	return out, err
}

// jsonNull is json.null. It has nothing that a script could change, since setmetatable is for tables.
var jsonNull = &vm.LUserData{Metatable: vm.LNil}

func (r *run) setShape(t *vm.LTable, s shape) {
	if r.shapes == nil {
		r.shapes = map[*vm.LTable]shape{}
	}
	r.shapes[t] = s
}
