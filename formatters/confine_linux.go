package formatters

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	workerMemory = raceFactor*128<<20 + threadStacks // address space beyond what the process has at its start
	workerHeap   = raceFactor * 64 << 20             // the garbage collector works harder near this
	workerStack  = 64 << 20                          // of a goroutine; recursion inside an interpreter ends here
	workerFiles  = 16
)

// confine limits the process for good. Memory is limited as address space: the Go runtime maps much more than it uses, so the limit begins at what is
// mapped now, and resident memory follows at a distance.
func confine() (confinement, error) {
	time.Local = time.UTC
	runtime.GOMAXPROCS(2) // the interpreter and the garbage collector
	debug.SetMaxStack(workerStack)
	debug.SetMemoryLimit(workerHeap)
	debug.SetGCPercent(200)
	debug.SetTraceback("none") // the reason of a crash is wanted, not where
	mapped, err := addressSpace()
	if err != nil {
		return confinement{}, err
	}
	for _, limit := range []struct {
		resource int
		value    uint64
	}{{unix.RLIMIT_AS, mapped + workerMemory}, {unix.RLIMIT_CORE, 0}, {unix.RLIMIT_NOFILE, workerFiles}} {
		if err := unix.Setrlimit(limit.resource, &unix.Rlimit{Cur: limit.value, Max: limit.value}); err != nil {
			return confinement{}, fmt.Errorf("resource %d: %w", limit.resource, err)
		}
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return confinement{}, fmt.Errorf("privileges: %w", err)
	}
	return confinement{memory: mapped + workerMemory}, nil
}

// confinement is what the process may have.
type confinement struct{ memory uint64 }

// exhausted says that little is left. It is never true of a process that is not confined.
func (c confinement) exhausted() bool {
	if c.memory == 0 {
		return false
	}
	mapped, err := addressSpace()
	return err != nil || mapped+workerHeap > c.memory
}

// addressSpace is the VmSize of this process in bytes (proc(5), statm).
func addressSpace() (uint64, error) {
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0, err
	}
	pages, _, _ := bytes.Cut(text, []byte(" "))
	n, err := strconv.ParseUint(string(pages), 10, 64)
	if err != nil {
		return 0, errors.New("/proc/self/statm can't be read")
	}
	return n * uint64(os.Getpagesize()), nil
}

// ownProcessorTime is what all threads of this process have used.
func ownProcessorTime() time.Duration { return clock(unix.CLOCK_PROCESS_CPUTIME_ID) }

// processorTime of another process of ours: its clock is named by its id (clock_getcpuclockid(3)).
func processorTime(pid int) time.Duration { return clock(int32(^pid<<3 | 2)) }

func clock(id int32) time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(id, &ts); err != nil {
		return 0 // the process has ended, which is noticed elsewhere
	}
	return time.Duration(ts.Nano())
}

// detach makes cmd end with this process and keeps the terminal's Ctrl-C from it, which would break calls of a server that is finishing its work.
func detach(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
}

// self is this very binary, even if another was put in its place since.
func self() (string, error) { return "/proc/self/exe", nil }
