package test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"lorikeet/cmd/lorikeet/simulator"
)

// adminKey is preset in every server that a test starts.
const adminKey = "test-admin-key-of-the-system-tests"

// patience bounds every wait of these tests; none of them waits for time to pass.
const patience = 2 * time.Minute

// binary gives the path of Lorikeet, built once; LORIKEET_TEST_BINARY names one that is there already.
var binary = sync.OnceValues(func() (string, error) {
	if path := os.Getenv("LORIKEET_TEST_BINARY"); path != "" {
		return path, nil
	}
	dir, err := os.MkdirTemp("", "lorikeet-test-")
	if err != nil {
		return "", err
	}
	binaryDir.Store(&dir)
	path := filepath.Join(dir, "lorikeet")
	args := []string{"build", "-o", path}
	if os.Getenv("LORIKEET_TEST_RACE") != "" {
		args = append(args, "-race")
	}
	out, err := exec.Command("go", append(args, "lorikeet/cmd/lorikeet")...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build: %w\n%s", err, out)
	}
	return path, nil
})

var binaryDir atomic.Pointer[string] // set if the binary was built

func TestMain(m *testing.M) {
	code := m.Run()
	if dir := binaryDir.Load(); dir != nil {
		_ = os.RemoveAll(*dir)
	}
	os.Exit(code)
}

// process is a running Lorikeet.
type process struct {
	t               testing.TB
	dir             string
	prefix          []string // command and arguments that run the server, e.g. in a network namespace
	cmd             *exec.Cmd
	rest, mqtt, udp string                     // host:port
	running         atomic.Pointer[os.Process] // set as soon as it is started
	log             *lockedBuffer
	ended           chan error
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

var ready = regexp.MustCompile(`ready: REST (\S+), MQTT (\S+), radio gateways \(Semtech UDP\) (\S+)`)

// start runs a server with a folder of its own on free ports. It is killed when the test ends.
func start(t testing.TB, env ...string) *process {
	t.Helper()
	p := &process{t: t, dir: t.TempDir(), rest: "127.0.0.1:0", mqtt: "127.0.0.1:0", udp: "127.0.0.1:0"}
	p.run(env...)
	return p
}

// run starts the server, again if it has ended: on the ports it had.
func (p *process) run(env ...string) {
	p.t.Helper()
	err := p.launch(env...)
	if p.cmd != nil {
		cmd := p.cmd
		p.t.Cleanup(func() {
			_ = cmd.Process.Kill()
			if p.t.Failed() && cmd == p.cmd {
				p.t.Logf("server log:\n%s", p.log)
			}
		})
	}
	if err != nil {
		p.t.Fatal(err)
	}
}

// launch starts the server and returns when it is ready, or an error if it ends before.
func (p *process) launch(env ...string) error {
	path, err := binary()
	if err != nil {
		return err
	}
	p.log = &lockedBuffer{}
	args := append(append([]string(nil), p.prefix...), path, "serve", "--data", filepath.Join(p.dir, "data"), "--http", p.rest, "--mqtt", p.mqtt, "--udp", p.udp)
	p.cmd = exec.Command(args[0], args[1:]...)
	p.cmd.Env = append(append(os.Environ(), "LORIKEET_ADMIN_KEY="+adminKey), env...)
	p.cmd.Stderr = p.log
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := p.cmd.Start(); err != nil {
		return err
	}
	p.running.Store(p.cmd.Process)
	cmd, ended := p.cmd, make(chan error, 1)
	p.ended = ended
	lines, isReady := bufio.NewScanner(stdout), false
	for !isReady && lines.Scan() {
		if m := ready.FindStringSubmatch(lines.Text()); m != nil {
			p.rest, p.mqtt, p.udp, isReady = m[1], m[2], m[3], true
		}
	}
	go func() {
		_, _ = io.Copy(io.Discard, stdout)
		ended <- cmd.Wait()
	}()
	if !isReady {
		return fmt.Errorf("server did not start:\n%s", p.log)
	}
	return nil
}

// kill ends the server at once, as a crash of the machine's power would for a process.
func (p *process) kill() {
	p.t.Helper()
	if err := p.cmd.Process.Kill(); err != nil {
		p.t.Fatal(err)
	}
	<-p.ended
}

// terminate asks the server to stop and checks that it does so in order.
func (p *process) terminate() {
	p.t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		p.t.Fatal(err)
	}
	select {
	case err := <-p.ended:
		if err != nil {
			p.t.Fatalf("server ended with %v:\n%s", err, p.log)
		}
	case <-time.After(patience):
		p.t.Fatalf("server does not stop on SIGTERM:\n%s", p.log)
	}
}

func (p *process) api() *simulator.Client { return simulator.NewClient("http://"+p.rest, adminKey) }

// call makes one REST call that must succeed.
func (p *process) call(method, path string, in, out any) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := p.api().Do(ctx, method, path, in, out); err != nil {
		p.t.Fatal(err)
	}
}

// application makes an application and gives an API key with all rights on it.
func (p *process) application(id string) (key string) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := p.api().CreateApplication(ctx, id); err != nil {
		p.t.Fatal(err)
	}
	key, err := p.api().CreateAPIKey(ctx, id, "test")
	if err != nil {
		p.t.Fatal(err)
	}
	return key
}

// device registers a device.
func (p *process) device(app string, id simulator.Identity, region simulator.Region) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if _, err := p.api().CreateDevice(ctx, app, id, region, 2); err != nil {
		p.t.Fatal(err)
	}
}

type object = map[string]any
