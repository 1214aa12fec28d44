//go:build faults

package test

import (
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
)

// insideVar is set inside the sandbox, to the path of a NATS server.
const insideVar = "LORIKEET_FAULTS_INSIDE"

// inSandbox runs the test again as the first process of name spaces of its own (network, mounts, processes), and says whether this is that run. Whatever
// the test makes there, processes too, is gone when it ends, even if it crashes or is interrupted.
func inSandbox(t *testing.T) bool {
	t.Helper()
	if os.Getenv(insideVar) != "" {
		prepareSandbox(t)
		return true
	}
	lorikeet, err := binary() // outside: the build may need the network
	if err != nil {
		t.Fatal(err)
	}
	nats := filepath.Join(t.TempDir(), "nats-server")
	if out, err := exec.Command("go", "build", "-o", nats, "github.com/nats-io/nats-server/v2").CombinedOutput(); err != nil {
		t.Fatalf("build the NATS server: %v\n%s", err, out)
	}
	runtime.LockOSThread() // Pdeathsig is about the thread that starts the child
	defer runtime.UnlockOSThread()
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v="+fmt.Sprint(testing.Verbose()), "-test.timeout=30m", "-test.count=1")
	cmd.Env = append(os.Environ(), insideVar+"="+nats, "LORIKEET_TEST_BINARY="+lorikeet, "TMPDIR="+t.TempDir())
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS | syscall.CLONE_NEWPID, Pdeathsig: syscall.SIGKILL}
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(interrupted)
	if err := cmd.Start(); err != nil {
		t.Fatalf("these tests need Linux name spaces, so run them as root on a machine that allows them: %v", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("inside the name spaces: %v", err)
		}
	case s := <-interrupted:
		_ = cmd.Process.Kill() // the kernel ends all others with it
		<-ended
		t.Fatalf("ended by %v", s)
	}
	return false
}

// prepareSandbox makes the file systems fit the name spaces.
func prepareSandbox(t *testing.T) {
	t.Helper()
	for _, err := range []error{
		syscall.Mount("none", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""), // what we mount stays here
		syscall.Mount("proc", "/proc", "proc", 0, ""),
		syscall.Mount("none", "/run", "tmpfs", 0, ""), // for the names of network name spaces
	} {
		if err != nil {
			t.Fatalf("mount in the name space: %v", err)
		}
	}
	command(t, "ip", "link", "set", "lo", "up")
	for _, bridge := range []string{"front", "back"} {
		command(t, "ip", "link", "add", bridge, "type", "bridge")
		command(t, "ip", "link", "set", bridge, "up")
	}
	command(t, "ip", "addr", "add", "10.123.0.1/24", "dev", "front")
	command(t, "ip", "addr", "add", "10.124.0.1/24", "dev", "back")
}

func command(t testing.TB, args ...string) {
	t.Helper()
	if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// machine is a network name space with two links: to the world (radio gateways, applications) at 10.123.0.x, and to the other machines at 10.124.0.x.
type machine struct {
	name        string
	front, back string // addresses
	prefix      []string
}

// newMachine makes one; number is the last part of its addresses. It is removed with the sandbox, or with remove.
func newMachine(t testing.TB, name string, number int) machine {
	t.Helper()
	m := machine{name: name, front: fmt.Sprintf("10.123.0.%d", number), back: fmt.Sprintf("10.124.0.%d", number), prefix: []string{"ip", "netns", "exec", name}}
	command(t, "ip", "netns", "add", name)
	command(t, "ip", "-n", name, "link", "set", "lo", "up")
	for bridge, address := range map[string]string{"front": m.front, "back": m.back} {
		command(t, "ip", "link", "add", name+bridge, "type", "veth", "peer", "name", bridge, "netns", name)
		command(t, "ip", "link", "set", name+bridge, "master", bridge, "up")
		command(t, "ip", "-n", name, "addr", "add", address+"/24", "dev", bridge)
		command(t, "ip", "-n", name, "link", "set", bridge, "up")
	}
	t.Cleanup(func() { // the links first: a name space goes when it pleases, and they with it
		command(t, "ip", "link", "del", name+"front")
		command(t, "ip", "link", "del", name+"back")
		command(t, "ip", "netns", "del", name)
	})
	return m
}

// cut ends the traffic of a link without a word to either side, as a broken cable between two switches does; heal lets it flow again.
func (m machine) cut(t testing.TB, bridge string) {
	t.Helper()
	command(t, "ip", "link", "set", m.name+bridge, "nomaster")
}

func (m machine) heal(t testing.TB, bridge string) {
	t.Helper()
	command(t, "ip", "link", "set", m.name+bridge, "master", bridge)
}

// unreach drops all that this machine sends to another on the link between machines, as a switch with a wrong table does; what the other sends arrives.
// reach ends that.
func (m machine) unreach(t testing.TB, other machine) {
	t.Helper()
	command(t, "ip", "-n", m.name, "route", "add", "blackhole", other.back+"/32")
}

func (m machine) reach(t testing.TB, other machine) {
	t.Helper()
	command(t, "ip", "-n", m.name, "route", "del", "blackhole", other.back+"/32")
}

// place gives the addresses of a node on this machine.
func (m machine) place() place {
	return place{prefix: m.prefix, rest: m.front + ":1885", mqtt: m.front + ":1883", udp: m.front + ":1700", cluster: m.back + ":1886"}
}
