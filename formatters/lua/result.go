package lua

import (
	"math"
	"strings"

	vm "github.com/yuin/gopher-lua"

	"lorikeet/messages"
)

const (
	maxTexts   = 100 // warnings or errors of one result
	maxPayload = 255 // bytes of frm_payload, as in The Things Stack
)

// result is the table that a function of the script gave. It is read raw: metamethods do not run.
type result struct {
	function string
	table    *vm.LTable
	warnings []string
}

// newResult reads errors, which make the call fail, and warnings.
func newResult(function string, got vm.LValue) (result, error) {
	r := result{function: function}
	table, ok := got.(*vm.LTable)
	if !ok {
		return r, r.refuse("returned a %s: return a table, such as {data = {temperature = 21.5}} or {bytes = {1, 2}}", got.Type())
	}
	r.table = table
	failures, err := r.texts("errors")
	if err != nil {
		return r, err
	}
	if len(failures) > 0 {
		return r, messages.Invalid("formatter_error", "%s", clip(strings.Join(failures, "; ")))
	}
	r.warnings, err = r.texts("warnings")
	return r, err
}

// refuse is the error for a result that is not as it must be.
func (r result) refuse(format string, args ...any) error {
	return messages.Invalid("formatter_output", r.function+": "+format, args...)
}

// texts reads a list of strings; nothing, or one string instead of a list, will do. False and the empty string are nothing.
func (r result) texts(member string) ([]string, error) {
	switch v := r.table.RawGetString(member).(type) {
	case *vm.LNilType:
		return nil, nil
	case vm.LBool:
		if !v {
			return nil, nil
		}
		return nil, r.refuse(`%s is true: return a list of strings, such as %s = {"battery is low"}`, member, member)
	case vm.LString:
		if v == "" {
			return nil, nil
		}
		return []string{clip(string(v))}, nil
	case *vm.LTable:
		n := v.Len()
		if n > maxTexts {
			return nil, r.refuse("%s has %d texts: return at most %d", member, n, maxTexts)
		}
		var out []string
		for i := range n {
			text := v.RawGetInt(i + 1)
			switch text.(type) {
			case vm.LString, vm.LNumber, vm.LBool:
				out = append(out, clip(text.String()))
			default:
				return nil, r.refuse("%s[%d] is a %s: make it a string", member, i+1, text.Type())
			}
		}
		if key, _ := v.Next(vm.LNil); n == 0 && key != vm.LNil {
			return nil, r.refuse(`%s is not a list: return for example %s = {"battery is low"}`, member, member)
		}
		return out, nil
	default:
		return nil, r.refuse(`%s is a %s: return a list of strings, such as %s = {"battery is low"}`, member, v.Type(), member)
	}
}

// encoded reads the result of encodeDownlink.
func (s *session) encoded(r result, fPort uint8) (messages.Encoded, error) {
	out := messages.Encoded{FPort: fPort, Warnings: r.warnings}
	switch v := r.table.RawGetString("fPort").(type) {
	case *vm.LNilType:
		if out.FPort == 0 {
			out.FPort = 1
		}
	case vm.LNumber:
		if v < 1 || v > 255 || float64(v) != math.Trunc(float64(v)) {
			return messages.Encoded{}, r.refuse("fPort is %s: return a whole number from 1 to 255", v)
		}
		out.FPort = uint8(v)
	default:
		return messages.Encoded{}, r.refuse("fPort is a %s: return a whole number from 1 to 255", v.Type())
	}
	switch v := r.table.RawGetString("bytes").(type) {
	case vm.LString:
		out.Bytes = []byte(v)
	case *vm.LTable:
		var err error
		if out.Bytes, err = r.bytes(v, &out.Warnings); err != nil {
			return messages.Encoded{}, err
		}
	default:
		return messages.Encoded{}, r.refuse("bytes is a %s: return a list of bytes such as bytes = {1, 2}, or a string", v.Type())
	}
	if len(out.Bytes) > maxPayload {
		return messages.Encoded{}, r.refuse("%d bytes are more than the %d of the longest payload: send less at once", len(out.Bytes), maxPayload)
	}
	return out, nil
}

// bytes takes numbers as JavaScript codecs' typed arrays do: the fraction is cut, and what is outside of 0 to 255 wraps around, so that -1 is 255.
func (r result) bytes(list *vm.LTable, warnings *[]string) ([]byte, error) {
	n := list.Len()
	if n > maxPayload {
		return nil, r.refuse("%d bytes are more than the %d of the longest payload: send less at once", n, maxPayload)
	}
	out := make([]byte, n)
	for i := range out {
		v, ok := list.RawGetInt(i + 1).(vm.LNumber)
		if !ok || math.IsNaN(float64(v)) || math.Abs(float64(v)) > 1<<53 {
			return nil, r.refuse("bytes[%d] is %s: make it a number from 0 to 255", i+1, clip(list.RawGetInt(i+1).String()))
		}
		if v < -128 || v >= 256 {
			*warnings = append(*warnings, clip("bytes["+vm.LNumber(i+1).String()+"] is "+v.String()+" and was cut to 8 bits"))
		}
		out[i] = byte(int64(v))
	}
	if key, _ := list.Next(vm.LNil); n == 0 && key != vm.LNil || list.RawGet(vm.LNumber(0)) != vm.LNil {
		return nil, r.refuse("bytes is not a list: return for example bytes = {1, 2}, where bytes[1] is the first")
	}
	return out, nil
}
