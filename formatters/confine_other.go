//go:build !linux

package formatters

import (
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"time"
)

// confine limits what the Go runtime itself can limit. Only on Linux is the memory of a worker bounded by the system.
func confine() (confinement, error) {
	time.Local = time.UTC
	runtime.GOMAXPROCS(2)
	debug.SetMaxStack(64 << 20)
	debug.SetMemoryLimit(64 << 20)
	debug.SetTraceback("none")
	return confinement{}, nil
}

type confinement struct{}

func (confinement) exhausted() bool { return false }

var started = time.Now()

// ownProcessorTime and processorTime are wall time here.
func ownProcessorTime() time.Duration { return time.Since(started) }
func processorTime(int) time.Duration { return time.Since(started) }
func detach(*exec.Cmd)                {}
func self() (string, error)           { return os.Executable() }
