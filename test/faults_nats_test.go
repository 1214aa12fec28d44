//go:build faults

package test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/nats-io/nats.go"
)

// natsServer is a NATS server as a process on a machine of its own.
type natsServer struct {
	machine
	t   testing.TB
	dir string
	cmd *exec.Cmd
	log *lockedBuffer
}

// startNATSServers starts one NATS server, or several that form a cluster, with JetStream on files that are synced before anything is acknowledged.
func startNATSServers(t testing.TB, count int) (servers []*natsServer, url string) {
	t.Helper()
	var urls, routes []string
	for i := range count {
		s := &natsServer{machine: newMachine(t, fmt.Sprintf("nats%d", i+1), 21+i), t: t, dir: t.TempDir(), log: &lockedBuffer{}}
		servers = append(servers, s)
		urls = append(urls, "nats://"+s.back+":4222")
		routes = append(routes, "nats://"+s.back+":6222")
	}
	for _, s := range servers {
		config := fmt.Sprintf("server_name: %s\nlisten: \"%s:4222\"\njetstream { store_dir: %q, sync_interval: always }\n", s.name, s.back, filepath.Join(s.dir, "js"))
		if count > 1 {
			config += fmt.Sprintf("cluster { name: lorikeet, listen: \"%s:6222\", routes: [%s] }\n", s.back, strings.Join(routes, ", "))
		}
		if err := os.WriteFile(filepath.Join(s.dir, "nats.conf"), []byte(config), 0o600); err != nil {
			t.Fatal(err)
		}
		s.start()
		t.Cleanup(func() {
			s.kill()
			if t.Failed() {
				t.Logf("log of %s:\n%s", s.name, tail(s.log.String()))
			}
		})
	}
	url = strings.Join(urls, ",")
	waitJetStream(t, url)
	return servers, url
}

func (s *natsServer) start() {
	s.t.Helper()
	args := append(append([]string(nil), s.prefix...), os.Getenv(insideVar), "-c", filepath.Join(s.dir, "nats.conf"))
	s.cmd = exec.Command(args[0], args[1:]...)
	s.cmd.Stdout, s.cmd.Stderr = s.log, s.log
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
}

// kill ends the server with SIGKILL.
func (s *natsServer) kill() {
	_ = s.cmd.Process.Signal(syscall.SIGCONT)
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait() // an error says how it ended
}

// signal is for SIGSTOP and SIGCONT.
func (s *natsServer) signal(sig syscall.Signal) {
	s.t.Helper()
	if err := s.cmd.Process.Signal(sig); err != nil {
		s.t.Fatal(err)
	}
}

func waitJetStream(t testing.TB, url string) {
	t.Helper()
	nc, err := nats.Connect(url, nats.RetryOnFailedConnect(true), nats.MaxReconnects(-1))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := nc.JetStream()
	if err != nil {
		t.Fatal(err)
	}
	c := &nodes{t: t}
	c.until("JetStream answers", func() bool { _, err := js.AccountInfo(); return err == nil })
}

// busiestLeader names the server that leads the stream with the most messages.
func busiestLeader(t testing.TB, url string) (server, stream string) {
	t.Helper()
	nc, err := nats.Connect(url)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := nc.JetStream()
	if err != nil {
		t.Fatal(err)
	}
	c := &nodes{t: t}
	c.until("a stream has a leader", func() bool {
		var most uint64
		for info := range js.Streams() {
			if info.State.Msgs >= most && info.Cluster != nil && !strings.HasPrefix(info.Config.Name, "KV_") {
				most, server, stream = info.State.Msgs, info.Cluster.Leader, info.Config.Name
			}
		}
		return server != ""
	})
	return server, stream
}
