package main

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"lorikeet/cmd/lorikeet/simulator"
	"lorikeet/messages"
)

type clusterDemoCommand struct {
	Nodes    int           `default:"3" help:"Number of nodes, each a process with an embedded NATS server."`
	Devices  int           `default:"6" help:"Number of devices."`
	Rate     float64       `default:"2" help:"Uplinks a second, of all devices together."`
	KillAt   time.Duration `name:"kill-at" default:"15s" help:"When one node is killed; 0: never."`
	BackAt   time.Duration `name:"back-at" default:"35s" help:"When it is started again; 0: never."`
	Duration time.Duration `default:"60s" help:"Length of the demo; 0: until it is interrupted."`
}

// demoNode is one process of the demo.
type demoNode struct {
	name, http, mqtt, udp string
	env                   []string
	dir                   string

	mu     sync.Mutex
	cmd    *exec.Cmd
	exited chan struct{}
}

// Run starts the nodes, lets simulated devices send to all of them, kills one and starts it again, and prints what the application sees.
func (c *clusterDemoCommand) Run(ctx context.Context) error {
	if c.Nodes < 1 || c.Nodes > 9 {
		return fmt.Errorf("--nodes %d: use 1 to 9", c.Nodes)
	}
	dir, err := os.MkdirTemp("", "lorikeet-cluster-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	admin := random{}.ULID(time.Now())
	nodes := demoNodes(dir, c.Nodes, admin)
	defer stopNodes(nodes)
	fmt.Printf("starting %d nodes, each with an embedded NATS server; logs are in %s\n", c.Nodes, dir)
	for _, n := range nodes {
		if err := n.start(); err != nil {
			return err
		}
	}
	for _, n := range nodes {
		if err := n.waitReady(ctx, time.Minute); err != nil {
			return err
		}
		fmt.Printf("%s is ready: REST %s, MQTT %s, radio gateways (Semtech UDP) %s\n", n.name, n.http, n.mqtt, n.udp)
	}
	return c.play(ctx, nodes, admin)
}

// demoNodes chooses ports and makes the environment of each node.
func demoNodes(dir string, count int, admin string) []*demoNode {
	var kek [32]byte
	_, _ = rand.Read(kek[:])
	secret := hex.EncodeToString(random{}.Bytes(16))
	ports := freePorts(5 * count)
	nodes := make([]*demoNode, count)
	var peers []string
	for i := range nodes {
		p := ports[5*i:]
		nodes[i] = &demoNode{name: fmt.Sprintf("node-%d", i+1), http: p[0], mqtt: p[1], udp: p[2], dir: dir}
		nodes[i].env = []string{"LORIKEET_CLUSTER_LISTEN=" + p[3], "LORIKEET_EMBEDDED_NATS_CLUSTER_LISTEN=" + p[4]}
		peers = append(peers, p[4])
	}
	for _, n := range nodes {
		n.env = append(n.env, "LORIKEET_DATA="+filepath.Join(dir, n.name), "LORIKEET_HTTP="+n.http, "LORIKEET_MQTT="+n.mqtt, "LORIKEET_UDP="+n.udp, "LORIKEET_ADMIN_KEY="+admin,
			"LORIKEET_KEY_ENCRYPTION_KEY="+base64.StdEncoding.EncodeToString(kek[:]), "LORIKEET_CLUSTER_URL=embedded", "LORIKEET_CLUSTER_NODE="+n.name,
			"LORIKEET_EMBEDDED_NATS_PEERS="+strings.Join(peers, ","), "LORIKEET_EMBEDDED_NATS_SECRET="+secret, "LORIKEET_FORMATTERS_WORKERS=1")
	}
	return nodes
}

// freePorts gives addresses on loopback that nobody uses now, for TCP and UDP.
func freePorts(count int) (addrs []string) {
	for len(addrs) < count {
		// Below the ports that the system gives to connections, so that none of these takes it before it is used.
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 10000+mathrand.IntN(20000)))
		if err != nil {
			continue
		}
		defer func() { _ = l.Close() }()
		u, err := net.ListenPacket("udp", l.Addr().String())
		if err != nil {
			continue
		}
		defer func() { _ = u.Close() }()
		addrs = append(addrs, l.Addr().String())
	}
	return addrs
}

func (n *demoNode) start() error {
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	log, err := os.OpenFile(filepath.Join(n.dir, n.name+".log"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	cmd := exec.Command(exe, "serve")
	cmd.Env = append(os.Environ(), n.env...)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		_ = log.Close()
		return err
	}
	exited := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		_ = log.Close()
		close(exited)
	}()
	n.mu.Lock()
	n.cmd, n.exited = cmd, exited
	n.mu.Unlock()
	return nil
}

// stop signals the process and waits until it has ended, if need be with SIGKILL.
func (n *demoNode) stop(sig os.Signal) {
	n.mu.Lock()
	cmd, exited := n.cmd, n.exited
	n.cmd = nil
	n.mu.Unlock()
	if cmd == nil {
		return
	}
	_ = cmd.Process.Signal(sig)
	select {
	case <-exited:
	case <-time.After(20 * time.Second):
		_ = cmd.Process.Kill()
		<-exited
	}
}

// stopNodes stops one after the other, the last ones together: when the majority is gone, nothing can be handed over.
func stopNodes(nodes []*demoNode) {
	var all sync.WaitGroup
	for _, n := range nodes {
		all.Go(func() { n.stop(syscall.SIGTERM) })
	}
	all.Wait()
}

func (n *demoNode) waitReady(ctx context.Context, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+n.http+"/readyz", nil)
		if err != nil {
			return err
		}
		if res, err := http.DefaultClient.Do(req); err == nil {
			_ = res.Body.Close()
			if res.StatusCode == http.StatusOK {
				return nil
			}
		}
		n.mu.Lock()
		exited := n.exited
		n.mu.Unlock()
		select {
		case <-time.After(100 * time.Millisecond):
		case <-exited:
			return fmt.Errorf("%s ended at once:\n%s", n.name, n.lastWords())
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready: %w\n%s", n.name, ctx.Err(), n.lastWords())
		}
	}
}

func (c *clusterDemoCommand) play(ctx context.Context, nodes []*demoNode, admin string) error {
	var http, mqtt, udp []string
	for _, n := range nodes {
		http, mqtt, udp = append(http, "http://"+n.http), append(mqtt, "tcp://"+n.mqtt), append(udp, n.udp)
	}
	sim := simulator.DefaultConfig()
	sim.HTTP, sim.MQTT, sim.UDP, sim.AdminKey = strings.Join(http, ","), strings.Join(mqtt, ","), strings.Join(udp, ","), admin
	api := simulator.NewClient(sim.HTTP, admin)
	if err := api.CreateApplication(ctx, demoApplication); err != nil {
		return err
	}
	var err error
	if sim.APIKey, err = api.CreateAPIKey(ctx, demoApplication, "demo"); err != nil {
		return err
	}
	sim.ApplicationID, sim.Formatter = demoApplication, messages.Formatter{Kind: messages.FormatterLua, Parameter: demoFormatter}
	sim.Devices, sim.Rate, sim.Duration, sim.Seed = c.Devices, c.Rate, c.Duration, uint64(time.Now().UnixNano())
	sim.Gateways, sim.Copies, sim.JoinRate, sim.WebhookListen = len(nodes), 2, 4, "127.0.0.1:0"
	if sim.Duration == 0 {
		sim.Duration = 1000 * time.Hour
	}
	sim.Event = demoPrinter(os.Stdout)
	fmt.Printf("\n%d simulated devices join; their radio gateways send to all nodes. What the application sees over MQTT:\n\n", c.Devices)
	faults, stop := context.WithCancel(ctx)
	defer stop()
	var acts sync.WaitGroup
	acts.Go(func() { c.harm(faults, nodes[len(nodes)-1]) })
	report, err := simulator.Run(ctx, sim, io.Discard)
	stop()
	acts.Wait()
	if err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	fmt.Println()
	if err := report.WriteTable(os.Stdout); err != nil {
		return err
	}
	if problems := report.Problems(); len(problems) > 0 && ctx.Err() == nil {
		return errors.New(strings.Join(problems, "; "))
	}
	return nil
}

// harm kills a node as a power cut would, and starts it again.
func (c *clusterDemoCommand) harm(ctx context.Context, n *demoNode) {
	start := time.Now()
	at := func(d time.Duration) bool {
		select {
		case <-time.After(time.Until(start.Add(d))):
			return true
		case <-ctx.Done():
			return false
		}
	}
	if c.KillAt == 0 || !at(c.KillAt) {
		return
	}
	n.stop(syscall.SIGKILL)
	fmt.Printf("\n    ✗ %s is killed (kill -9), with the NATS server in it. The others take over.\n\n", n.name)
	if c.BackAt == 0 || !at(c.BackAt) {
		return
	}
	if err := n.start(); err != nil {
		fmt.Println(err)
		return
	}
	if err := n.waitReady(ctx, time.Minute); err != nil {
		if ctx.Err() == nil {
			fmt.Println(err)
		}
		return
	}
	fmt.Printf("\n    ✓ %s is back and takes its share again.\n\n", n.name)
}

// lastWords is the end of the node's log, which goes away with the demo.
func (n *demoNode) lastWords() string {
	text, err := os.ReadFile(filepath.Join(n.dir, n.name+".log"))
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-2000):])
}
