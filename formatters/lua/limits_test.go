package lua

import (
	"strings"
	"testing"

	"lorikeet/messages"
)

// A limit may be hit at any instruction, also inside of error handlers and iterators.
func TestAnyInstructionMayBeTheLast(t *testing.T) {
	for _, body := range hostile {
		p := mustCompile(t, "function decodeUplink(input)\n"+body+"\nend")
		for n := 1; n < 800; n += 1 + n/3 {
			r := newRun(t.Context(), usualDepth)
			r.steps, r.next = maxSteps+1-n, maxSteps+1
			s, err := p.startRun(r)
			if err == nil {
				_, _, err = s.decode("decodeUplink", input(t, "0102"))
				s.vm.Close()
			}
			if err != nil {
				onlyInvalid(t, err)
			}
		}
	}
}

// A decoder may well call itself for each byte of a payload, and let a function of its own do so for it.
func TestDeepRecursionIsServed(t *testing.T) {
	t.Parallel()
	source := `local function sum(b, i) if i > #b then return 0 end return b[i] + sum(b, i + 1) end
local each
function each(b, i) local function step() if i <= #b then return each(b, i + 1) end return i end return step() end
function decodeUplink(input) return {data = {sum = sum(input.bytes, 1), next = each(input.bytes, 1)}} end`
	p := mustCompile(t, source)
	out, err := p.DecodeUplink(t.Context(), messages.DecodeInput{Bytes: []byte(strings.Repeat("\x01", 242)), FPort: 1})
	if err != nil || string(out.Data) != `{"sum":242,"next":243}` && string(out.Data) != `{"next":243,"sum":242}` {
		t.Errorf("got %s, %v", out.Data, err)
	}
}
