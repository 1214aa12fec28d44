package formatters_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// children of a process, whichever of its threads started them.
func children(t *testing.T, pid int) []string {
	t.Helper()
	lists, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, list := range lists {
		text, _ := os.ReadFile(list) // the thread may have ended since
		out = append(out, strings.Fields(string(text))...)
	}
	return out
}

func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(time.Minute); !condition(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not after a minute", what)
		}
	}
}

// TestWorkersDieWithTheServer: even one that runs a script which never ends, and a server that had no time to say good-bye.
func TestWorkersDieWithTheServer(t *testing.T) {
	t.Parallel()
	server := exec.Command(os.Args[0])
	server.Env = append(os.Environ(), hangingServer+"=1")
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = server.Process.Kill() }()
	var worker string
	eventually(t, "the script runs", func() bool {
		workers := children(t, server.Process.Pid) // for a moment also one by which Go's os package finds out what the kernel can do
		if len(workers) != 1 {
			return false
		}
		worker = workers[0]
		var ticks uint64 // of processor time, field 14 of proc(5) stat; the name is in brackets
		text, err := os.ReadFile("/proc/" + worker + "/stat")
		_, rest, _ := strings.Cut(string(text), ") ")
		if fields := strings.Fields(rest); err == nil && len(fields) > 11 {
			_, err = fmt.Sscan(fields[11], &ticks)
		}
		return err == nil && ticks > 20
	})
	if err := server.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := server.Wait(); err == nil {
		t.Error("the server was not killed")
	}
	eventually(t, "the worker ends", func() bool {
		text, err := os.ReadFile("/proc/" + worker + "/stat")
		return err != nil || strings.Contains(string(text), ") Z ") // a zombie, if nobody collects orphans here
	})
}
