package test

import (
	"os"
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
