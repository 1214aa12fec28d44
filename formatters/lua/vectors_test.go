package lua

import (
	"bufio"
	"encoding/json"
	"math"
	"os"
	"strconv"
	"strings"
	"testing"

	vm "github.com/yuin/gopher-lua"
)

// vector is a line of testdata/vectors.jsonl: a call of a library function and what Lua 5.4 makes of it. testdata/vectors.lua made it.
type vector struct {
	Call          string
	Args, Results []vectorValue
	Fails         bool
}

// vectorValue is a number, true, false, null, {"hex": bytes of a string} or {"number": "inf"}.
type vectorValue struct{ vm.LValue }

func (v *vectorValue) UnmarshalJSON(text []byte) error {
	v.LValue = vm.LNil
	if text[0] == '{' {
		var o struct {
			Hex    *string
			Number string
		}
		if err := json.Unmarshal(text, &o); err != nil {
			return err
		}
		if o.Hex != nil {
			b, err := hexBytes(*o.Hex)
			v.LValue = vm.LString(b)
			return err
		}
		n, err := strconv.ParseFloat(strings.TrimPrefix(o.Number, "-n"), 64)
		if strings.HasSuffix(o.Number, "nan") {
			n, err = math.NaN(), nil
		}
		v.LValue = vm.LNumber(n)
		return err
	}
	var plain any
	if err := json.Unmarshal(text, &plain); err != nil {
		return err
	}
	switch p := plain.(type) {
	case float64:
		v.LValue = vm.LNumber(p)
	case bool:
		v.LValue = vm.LBool(p)
	}
	return nil
}

func same(a, b vm.LValue) bool {
	x, isNumber := a.(vm.LNumber)
	y, both := b.(vm.LNumber)
	return a == b || isNumber && both && math.IsNaN(float64(x)) && math.IsNaN(float64(y))
}

func TestLibrariesDoAsLua54(t *testing.T) {
	t.Parallel()
	f, err := os.Open("testdata/vectors.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	p, seen := mustCompile(t, "local all = _G"), map[string]int{}
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var v vector
		if err := json.Unmarshal(lines.Bytes(), &v); err != nil {
			t.Fatalf("%v: %s", err, lines.Text())
		}
		seen[v.Call]++
		if got, ok := runVector(t, p, v); !ok {
			t.Errorf("%s\n got %q", lines.Text(), got)
		}
	}
	for _, call := range []string{"string.pack", "string.unpack", "string.packsize", "string.find", "string.match", "string.gsub", "string.format", "_G.tonumber"} {
		if seen[call] < 10 {
			t.Errorf("only %d vectors of %s", seen[call], call)
		}
	}
}

// runVector calls the function and says whether it did as Lua 5.4.
func runVector(t *testing.T, p *Program, v vector) (got []string, ok bool) {
	t.Helper()
	s, err := p.start(t.Context(), usualDepth)
	if err != nil {
		t.Fatal(err)
	}
	defer s.vm.Close()
	library, name, _ := strings.Cut(v.Call, ".")
	s.vm.Push(s.vm.G.Global.RawGetString(library).(*vm.LTable).RawGetString(name))
	for _, a := range v.Args {
		s.vm.Push(a.LValue)
	}
	if err := s.vm.PCall(len(v.Args), vm.MultRet, nil); err != nil {
		return []string{err.Error()}, v.Fails
	}
	ok = !v.Fails && s.vm.GetTop() == len(v.Results)
	for i := range s.vm.GetTop() {
		got = append(got, s.vm.Get(i+1).String())
		ok = ok && same(s.vm.Get(i+1), v.Results[i].LValue)
	}
	return got, ok
}
