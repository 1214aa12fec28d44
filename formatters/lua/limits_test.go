package lua

import "testing"

// A limit may be hit at any instruction, also inside of error handlers and iterators.
func TestAnyInstructionMayBeTheLast(t *testing.T) {
	for _, body := range hostile {
		p := mustCompile(t, "function decodeUplink(input)\n"+body+"\nend")
		for n := 1; n < 800; n += 1 + n/3 {
			r := newRun(t.Context())
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
