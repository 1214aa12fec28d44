package lua

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	vm "github.com/yuin/gopher-lua"

	"lorikeet/messages"
)

const maxDepth = 32 // of tables in tables, both ways

// shape is what a table is written as.
type shape int

const (
	anyShape    shape = iota // an array if its keys are 1 to n and there is at least one, else an object
	arrayShape               // json.array
	objectShape              // json.object
)

// writer writes Lua values as JSON. It reads tables raw, so no metamethod runs.
type writer struct {
	*run
	root     string // how errors and warnings name the outermost value
	buf      []byte
	path     []step       // to the value that is being written
	inside   []*vm.LTable // tables that are being written
	warnings []string
}

// step is a key on the path.
type step struct {
	name  string
	index int // of an array; then name is empty
}

// object writes a table, as an object even if its keys are 1 to n.
func (w *writer) object(t *vm.LTable) (json.RawMessage, error) {
	w.buf = nil
	err := w.table(t, objectShape)
	if err == nil {
		err = w.checkSize()
	}
	return w.buf, err
}

func (w *writer) checkSize() error {
	if len(w.buf) > messages.MaxFormatterOutput {
		return messages.Invalid("formatter_output", "%s is larger than %d bytes of JSON: return less", w.root, messages.MaxFormatterOutput)
	}
	return nil
}

func (w *writer) value(v vm.LValue) error {
	if err := w.checkSize(); err != nil {
		return err
	}
	if err := w.spend(4); err != nil {
		return w.blame(err)
	}
	switch v := v.(type) {
	case vm.LNumber:
		w.number(float64(v))
	case vm.LString:
		if !utf8.ValidString(string(v)) {
			w.warn("is not UTF-8 text; what is not was replaced: use hex.encode for raw bytes")
		}
		w.buf = appendString(w.buf, string(v))
	case vm.LBool:
		w.buf = strconv.AppendBool(w.buf, bool(v))
	case *vm.LNilType:
		w.buf = append(w.buf, "null"...)
	case *vm.LTable:
		return w.table(v, w.shapes[v])
	case *vm.LUserData: // jsonNull; there is no other
		w.buf = append(w.buf, "null"...)
	default:
		return w.refuse("is a " + v.Type().String())
	}
	return nil
}

func (w *writer) refuse(what string) error {
	return messages.Invalid("formatter_output", "%s %s: use numbers, strings, booleans, json.null and tables of them", w.where(), what)
}

func (w *writer) warn(what string) {
	if len(w.warnings) < maxTexts {
		w.warnings = append(w.warnings, w.where()+" "+what)
	}
}

// where is the path to the value, such as data.list[3].x.
func (w *writer) where() string {
	var b strings.Builder
	b.WriteString(w.root)
	for _, s := range w.path {
		if s.name == "" && s.index > 0 {
			fmt.Fprintf(&b, "[%d]", s.index)
		} else {
			b.WriteByte('.')
			b.WriteString(s.name)
		}
	}
	return clip(b.String())
}

// number writes an integer without a fraction, and any other number with the fewest digits that give it back.
func (w *writer) number(v float64) {
	switch size := math.Abs(v); {
	case math.IsNaN(v) || math.IsInf(v, 0):
		w.warn("is not a finite number and became null: check for a division by zero")
		w.buf = append(w.buf, "null"...)
	case v == 0:
		w.buf = append(w.buf, '0')
	case size < 1e21 && size >= 1e-6:
		w.buf = strconv.AppendFloat(w.buf, v, 'f', -1, 64)
	default:
		w.buf = strconv.AppendFloat(w.buf, v, 'e', -1, 64)
	}
}

func (w *writer) table(t *vm.LTable, as shape) error {
	if len(w.inside) == maxDepth {
		return w.refuse(fmt.Sprintf("is nested more than %d deep", maxDepth))
	}
	if slices.Contains(w.inside, t) {
		return w.refuse("contains itself")
	}
	w.inside = append(w.inside, t)
	defer func() { w.inside = w.inside[:len(w.inside)-1] }()
	if as != objectShape {
		if list, ok := elements(t); ok && (len(list) > 0 || as == arrayShape) {
			return w.array(list)
		}
		if as == arrayShape {
			return w.refuse("was given to json.array but has keys that are not 1 to n")
		}
	}
	return w.members(t)
}

// elements gives what is in t if its keys are exactly 1 to n; n may be 0.
func elements(t *vm.LTable) ([]vm.LValue, bool) {
	var out []vm.LValue
	ok := true
	t.ForEach(func(k, v vm.LValue) {
		n, isNumber := k.(vm.LNumber)
		ok = ok && isNumber && int(n) == len(out)+1 && float64(n) == float64(int(n))
		if ok {
			out = append(out, v)
		}
	})
	return out, ok
}

func (w *writer) array(list []vm.LValue) error {
	w.buf = append(w.buf, '[')
	for i, v := range list {
		if i > 0 {
			w.buf = append(w.buf, ',')
		}
		w.path = append(w.path, step{index: i + 1})
		if err := w.value(v); err != nil {
			return err
		}
		w.path = w.path[:len(w.path)-1]
	}
	w.buf = append(w.buf, ']')
	return nil
}

type entry struct {
	name  string
	value vm.LValue
}

func (w *writer) members(t *vm.LTable) error {
	var entries []entry
	var err error
	t.ForEach(func(k, v vm.LValue) {
		switch k.(type) {
		case vm.LString, vm.LNumber, vm.LBool:
			entries = append(entries, entry{k.String(), v})
		default:
			err = w.refuse("has a key that is a " + k.Type().String())
		}
	})
	if err != nil {
		return err
	}
	slices.SortFunc(entries, func(a, b entry) int { return cmp.Compare(a.name, b.name) })
	w.buf = append(w.buf, '{')
	for i, e := range entries {
		if i > 0 {
			w.buf = append(w.buf, ',')
			if e.name == entries[i-1].name {
				return w.refuse(fmt.Sprintf("has the key %.64q twice, as a string and as a number or boolean", e.name))
			}
		}
		w.buf = append(appendString(w.buf, e.name), ':')
		w.path = append(w.path, step{name: e.name})
		if err := w.value(e.value); err != nil {
			return err
		}
		w.path = w.path[:len(w.path)-1]
	}
	w.buf = append(w.buf, '}')
	return nil
}

// appendString writes a JSON string; what is not UTF-8 becomes U+FFFD.
func appendString(b []byte, s string) []byte {
	const digits = "0123456789abcdef"
	b = append(b, '"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b = append(b, '\\', byte(r))
		case r == '\n':
			b = append(b, '\\', 'n')
		case r == '\t':
			b = append(b, '\\', 't')
		case r == '\r':
			b = append(b, '\\', 'r')
		case r < ' ':
			b = append(b, '\\', 'u', '0', '0', digits[r>>4], digits[r&15])
		default:
			b = utf8.AppendRune(b, r)
		}
	}
	return append(b, '"')
}
