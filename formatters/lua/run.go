package lua

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"runtime/metrics"
	"strings"
	"time"

	vm "github.com/yuin/gopher-lua"

	"lorikeet/messages"
)

// Limits of one call. They are far above what a decoder of a LoRaWAN payload needs and far below what hurts the process it runs in.
const (
	maxSteps     = 20_000_000 // instructions and steps of library functions; some 0.3 s
	maxMemory    = 32 << 20   // bytes of heap that a call may add
	maxString    = 256 << 10  // bytes of one string
	maxArray     = 1 << 14    // indices from here on are not kept in the array part of a table, and # does not see them
	usualDepth   = 200        // nested Lua and library calls; a stack for more is made for a script that needs it
	maxCallDepth = 2000
	maxRegistry  = 1 << 16 // values on the stack of the virtual machine
	maxResults   = 8000    // values that one library call gives back, as in Lua 5.1

	checkEvery  = 64                     // steps from one look at the clock to the next
	sampleEvery = 200 * time.Microsecond // from one look at the heap to the next
)

// An assignment to t[n] fills the array part up to n in one instruction, with what no look at the clock or the heap can interfere.
// The variable is the virtual machine's, for the whole process, and is written before any state exists.
func init() { vm.MaxArrayIndex = maxArray }

// Reasons to end a call.
var (
	errTime   = errors.New("the script did not end in time: look for a loop that never ends, or do less in one call")
	errSteps  = errors.New("the script takes too many steps: look for a loop that never ends, or do less in one call")
	errDepth  = fmt.Errorf("functions call one another more than %d deep: look for a recursion that never ends", maxCallDepth)
	errMemory = errors.New("the script uses too much memory: keep fewer and smaller tables and strings")
)

// run is one call of a script: what it may still spend, and what its libraries remember. It is the context of the virtual machine,
// which calls Done before each instruction and raises Err when Done is closed. Once a limit is hit every further instruction raises,
// so that pcall can't swallow it.
type run struct {
	context.Context // the caller's
	deadline        time.Time
	depth           int // of calls
	steps, next     int
	sampled         time.Time // when the heap was looked at; zero before the first look
	baseline        uint64    // bytes of heap at the first look
	heap            [1]metrics.Sample
	stop            <-chan struct{} // nil while the script may go on
	err             error

	shapes map[*vm.LTable]shape // what json.array and json.object said
}

func newRun(ctx context.Context, depth int) *run {
	r := &run{Context: ctx, depth: depth, next: checkEvery, sampled: time.Now()}
	r.deadline, _ = ctx.Deadline()
	r.check()
	return r
}

// deepening does a call, and once more with a larger stack if the usual one was too small for it: the larger one costs half as much as a usual call.
// A call that is done again starts anew, and its time goes on.
func deepening[T any](do func(depth int) (T, error)) (T, error) {
	out, err := do(usualDepth)
	if errors.Is(err, errDepth) {
		return do(maxCallDepth)
	}
	return out, err
}

// runOf is the run that a library function serves.
func runOf(l *vm.LState) *run { return l.Context().(*run) }

// closed ends every run that has hit a limit.
var closed = func() chan struct{} { c := make(chan struct{}); close(c); return c }()

// Done counts an instruction.
func (r *run) Done() <-chan struct{} {
	r.steps++
	if r.steps >= r.next {
		r.check()
	}
	return r.stop
}

// Err is why the call must end; nil while it may go on.
func (r *run) Err() error { return r.err }

// spend counts steps of Go code and says whether the call must end.
func (r *run) spend(steps int) error {
	r.steps += steps
	if r.steps >= r.next {
		r.check()
	}
	return r.err
}

// mustSpend is spend for library functions.
func (r *run) mustSpend(l *vm.LState, steps int) {
	if err := r.spend(steps); err != nil {
		l.RaiseError("%s", err.Error())
	}
}

// mustMake refuses a string of n bytes if it is too long, and counts the making of it.
func (r *run) mustMake(l *vm.LState, n int) {
	mustFit(l, n)
	r.mustSpend(l, n/64)
}

// mustFit refuses a string of n bytes if it is too long.
func mustFit(l *vm.LState, n int) {
	if n > maxString {
		l.RaiseError("a string of %d bytes is too long: at most %d", n, maxString)
	}
}

// check looks at the limits and sets when to look again.
func (r *run) check() {
	r.next = r.steps + checkEvery
	if r.err != nil {
		return
	}
	now := time.Now()
	switch {
	case r.Context.Err() != nil, !r.deadline.IsZero() && !now.Before(r.deadline):
		r.fail(errTime)
	case r.steps > maxSteps:
		r.fail(errSteps)
	case now.Sub(r.sampled) >= sampleEvery:
		r.sampled = now
		if r.tooMuchMemory() {
			r.fail(errMemory)
		}
	}
}

func (r *run) fail(err error) { r.err, r.stop = err, closed }

// tooMuchMemory compares the heap with what it was at the first look. The heap is that of the process: other work counts too,
// but garbage does not, for it is collected before a script is blamed.
func (r *run) tooMuchMemory() bool {
	now := r.heapBytes()
	if r.baseline == 0 {
		r.baseline = now
	}
	if now < r.baseline+maxMemory {
		return false
	}
	runtime.GC()
	return r.heapBytes() > r.baseline+maxMemory*3/4
}

func (r *run) heapBytes() uint64 {
	r.heap[0].Name = "/memory/classes/heap/objects:bytes"
	metrics.Read(r.heap[:])
	return r.heap[0].Value.Uint64()
}

// blame turns an error of the virtual machine into one for the user.
func (r *run) blame(err error) error {
	if r.err != nil {
		return messages.Invalid("formatter_limit", "%w", r.err)
	}
	var raised *vm.ApiError
	if !errors.As(err, &raised) {
		return messages.Invalid("formatter_error", "%s", clip(err.Error()))
	}
	switch o := raised.Object.(type) {
	case vm.LString, vm.LNumber:
		if strings.HasSuffix(o.String(), " stack overflow") {
			return messages.Invalid("formatter_limit", "%w", errDepth)
		}
		return messages.Invalid("formatter_error", "%s", clip(o.String()))
	case nil:
		return messages.Invalid("formatter_error", "the script fails without an error: simplify its error handling")
	default:
		return messages.Invalid("formatter_error", "the script called error with a %s: call it with a string", o.Type())
	}
}
