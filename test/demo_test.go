package test

import (
	"bufio"
	"context"
	"os/exec"
	"regexp"
	"syscall"
	"testing"
)

// TestDemoPrintsDecodedEvents runs what `make demo` runs, until decoded events are there.
func TestDemoPrintsDecodedEvents(t *testing.T) {
	t.Parallel()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, "demo", "--http", "127.0.0.1:0", "--mqtt", "127.0.0.1:0", "--udp", "127.0.0.1:0")
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	want := []*regexp.Regexp{
		regexp.MustCompile(`mosquitto_sub -h localhost -p \d+ -u demo -P NNSXS\.\w+\.\w+ -t 'v3/demo/devices/\+/up'`),
		regexp.MustCompile(`curl -H 'Authorization: Bearer NNSXS\.\w+\.\w+' 'http://127.0.0.1:\d+/api/v3/`),
		regexp.MustCompile(`sim-\w+-000000  join +dev_addr=[0-9A-F]{8}`),
		regexp.MustCompile(`sim-\w+-00000\d  up +f_cnt=\d+ f_port=1 decoded_payload=\{"sensor":1,"temperature":\d+(\.\d)?\}`),
	}
	lines := bufio.NewScanner(stdout)
	for len(want) > 0 && lines.Scan() {
		if want[0].MatchString(lines.Text()) {
			want = want[1:]
		}
	}
	if len(want) > 0 {
		t.Errorf("demo did not print %s", want[0])
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	for lines.Scan() {
		// The report at the end.
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("demo ended with %v", err)
	}
}
