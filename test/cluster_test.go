package test

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"

	"lorikeet/cmd/lorikeet/simulator"
)

// startJetStream runs a NATS server that keeps what it acknowledged.
func startJetStream(t testing.TB) (url string) {
	t.Helper()
	s, err := natsserver.NewServer(&natsserver.Options{Host: "127.0.0.1", Port: -1, NoLog: true, NoSigs: true, JetStream: true, StoreDir: t.TempDir(), SyncAlways: true})
	if err != nil {
		t.Fatal(err)
	}
	go s.Start()
	if !s.ReadyForConnections(patience) {
		t.Fatal("the NATS server does not start")
	}
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	return s.ClientURL()
}

// TestKilledNodeOfThreeLosesNothing kills one of three nodes with SIGKILL under load; its supervisor starts it again. No accepted uplink may be lost or
// published under two ids, and no FCntDown used for two contents. (make cluster-faults does this and more to larger clusters.)
func TestKilledNodeOfThreeLosesNothing(t *testing.T) {
	t.Parallel()
	c := startNodes(t, sharedNATS(startJetStream(t), 1), onLoopback(t), onLoopback(t), onLoopback(t))
	l := c.startLoad("127.0.0.1:0", 60, 20, func(cfg *simulator.Config) { cfg.KeepAlive = 200 * time.Millisecond })
	l.waitEach(1)
	victim := c.all[0]
	starts, _ := victim.isReady()
	l.mark("kill -9")
	victim.signal(syscall.SIGKILL)
	l.waitEach(1)
	c.until("the node runs again", func() bool { again, ready := victim.isReady(); return ready && again > starts })
	l.waitEach(2)
	l.check(l.finish())
	c.checkEnds()
}

// TestNodeDoesNotBeginAnewWithoutItsStore removes what the NATS server keeps, as when a disk is exchanged: with an empty store devices would get counters
// anew, so a node that has worked with another refuses to start.
func TestNodeDoesNotBeginAnewWithoutItsStore(t *testing.T) {
	t.Parallel()
	env := []string{"LORIKEET_CLUSTER_URL=embedded", "LORIKEET_CLUSTER_NODE=alone", "LORIKEET_KEY_ENCRYPTION_KEY=" + clusterKEK, "LORIKEET_CLUSTER_LISTEN=" + onLoopback(t).cluster}
	p := start(t, env...)
	p.application("kept")
	p.terminate()
	p.run(env...)
	p.call("GET", "/applications/kept", nil, &object{})
	p.terminate()
	data := filepath.Join(p.dir, "data")
	if err := os.RemoveAll(filepath.Join(data, "nats")); err != nil {
		t.Fatal(err)
	}
	note := filepath.Join(data, "cluster-store")
	err := p.launch(env...)
	if err == nil {
		t.Fatal("the node began anew")
	}
	if text := err.Error(); !strings.Contains(text, "hold no store in namespace lorikeet") || !strings.Contains(text, note) {
		t.Errorf("the node says:\n%s", text)
	}
	if err := os.Remove(note); err != nil { // as it says
		t.Fatal(err)
	}
	p.run(env...)
}

// TestStoreMovesIntoEmbeddedNATS copies a single node into the embedded NATS server of a node that does not run yet.
func TestStoreMovesIntoEmbeddedNATS(t *testing.T) {
	t.Parallel()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	key := "LORIKEET_KEY_ENCRYPTION_KEY=" + clusterKEK
	single := start(t, key)
	single.application("moved")
	single.terminate()

	const secret = "embedded-secret-of-the-tests"
	at := onLoopback(t)
	env := []string{key, "LORIKEET_CLUSTER_URL=embedded", "LORIKEET_CLUSTER_NODE=alone", "LORIKEET_CLUSTER_LISTEN=" + at.cluster,
		"LORIKEET_EMBEDDED_NATS_LISTEN=" + at.rest, "LORIKEET_EMBEDDED_NATS_SECRET=" + secret}
	p := &process{t: t, dir: t.TempDir(), rest: "127.0.0.1:0", mqtt: "127.0.0.1:0", udp: "127.0.0.1:0"}
	server := exec.Command(path, "nats", "--data", filepath.Join(p.dir, "data"))
	server.Env = append(os.Environ(), env...)
	var log lockedBuffer
	server.Stderr = &log
	out, err := server.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Process.Kill(); _ = server.Wait() })
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || !strings.Contains(line, "nats://"+at.rest) {
		t.Fatalf("got %q, %v:\n%s", line, err, &log)
	}
	copied := exec.Command(path, "migrate", "--from", "badger:"+filepath.Join(single.dir, "data"), "--to", "nats://"+at.rest)
	copied.Env = append(os.Environ(), key, "LORIKEET_NATS_USER=lorikeet", "LORIKEET_NATS_PASSWORD="+secret)
	if out, err := copied.CombinedOutput(); err != nil {
		t.Fatalf("migrate: %v\n%s", err, out)
	}
	if err := server.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := server.Wait(); err != nil {
		t.Fatalf("%v:\n%s", err, &log)
	}
	p.run(env...)
	p.call("GET", "/applications/moved", nil, &object{})
}
