package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/nats-io/nats.go"

	"lorikeet/actors"
	"lorikeet/cluster"
	"lorikeet/cluster/node"
	"lorikeet/gateways/broker"
	"lorikeet/messages"
	v3 "lorikeet/messages/v3"
	"lorikeet/persistence"
	"lorikeet/persistence/jetstream"
	"lorikeet/persistence/jetstream/natsserver"
)

// protocol is raised when nodes of the version before can't work with those of this one any more; both still accept each other.
const (
	protocol       = 1
	oldestProtocol = 1
)

// The kinds of messages that nodes send each other, beside those to devices.
const (
	kindPaths        = "gateway_paths"
	kindRelease      = "release_integrations"
	kindHealth       = "integration_health"
	kindIntegration  = "integration"
	kindNotice       = "delivery_notice"
	kindGatewayStats = "gateway_stats"
	kindNodeStats    = "node_stats"
)

// clustered is what a node has that is one of many.
type clustered struct {
	name     string
	embedded *natsserver.Server
	nats     *nats.Conn
	sealer   *persistence.Sealer
	store    *jetstream.Store
	shared   *cluster.Shared
	relay    *actors.Relay
	paths    *paths
	node     *node.Node
	lost     atomic.Bool // the node is no member any more
	ending   atomic.Bool // the connection to NATS is closed on purpose
	watching func()      // ends watchFitness
}

// openSharedStore reaches NATS, or starts the embedded one, and opens the store of the cluster.
func (s *server) openSharedStore(ctx context.Context, kek persistence.KEK) (err error) {
	c := &clustered{sealer: persistence.NewSealer(kek)}
	s.clustered = c
	if c.name, err = s.cfg.nodeName(); err != nil {
		return err
	}
	if s.cfg.embedded() {
		err = s.startNATS(ctx)
	} else {
		options := natsOptions(s.cfg.NATS, split(s.cfg.Cluster.URL), "lorikeet "+c.name)
		options.OnState = s.natsState
		c.nats, err = jetstream.Connect(options)
	}
	if err != nil {
		return err
	}
	worked, err := s.readIdentity()
	if err != nil {
		return err
	}
	c.store, err = jetstream.Open(ctx, jetstream.Config{
		Conn: c.nats, Domain: s.cfg.NATS.Domain, Namespace: s.cfg.Cluster.Namespace, Replicas: s.replicas(), Journals: s.cfg.Cluster.Streams, Sealer: c.sealer,
		Identity: worked, Retention: s.cfg.Store.Retention, Logger: s.log.With("component", "store"), Metrics: s.metrics,
	})
	if err != nil {
		if e := (*messages.Error)(nil); worked != "" && errors.As(err, &e) && (e.Name == "store_gone" || e.Name == "another_store") {
			return fmt.Errorf("%w. If another store is what you want, remove %s", err, s.identityFile())
		}
		return err
	}
	s.store = c.store
	if worked == "" {
		s.writeIdentity(c.store.Identity())
	}
	return nil
}

// identityFile notes which shared store this node has worked with, so that it does not begin anew on servers that have lost it, or joins another cluster.
func (s *server) identityFile() string { return filepath.Join(s.cfg.Data, "cluster-store") }

func (s *server) readIdentity() (string, error) {
	b, err := os.ReadFile(s.identityFile())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("which store this node has worked with: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}

func (s *server) writeIdentity(id string) {
	if err := os.WriteFile(s.identityFile(), []byte(id+"\n"), 0o600); err != nil {
		s.log.Warn("which store this node works with can't be noted, so a store that is lost or exchanged will not be noticed at the next start", "err", err)
	}
}

func natsOptions(cfg NATSConfig, urls []string, name string) jetstream.Options {
	return jetstream.Options{
		URLs: urls, Name: name, CredentialsFile: cfg.Credentials, NKeySeedFile: cfg.NKey, User: cfg.User, Password: string(cfg.Password), Token: string(cfg.Token),
		CAFile: cfg.CA, CertFile: cfg.Cert, KeyFile: cfg.Key,
	}
}

func (s *server) startNATS(ctx context.Context) (err error) {
	c := s.clustered
	if c.embedded, err = natsserver.Start(ctx, embeddedServer(s.cfg, c.name, s.log)); err != nil {
		return err
	}
	c.nats, err = jetstream.Connect(jetstream.Options{Name: "lorikeet " + c.name, InProcess: c.embedded.ClientOptions(), OnState: s.natsState})
	return err
}

// natsState logs what becomes of the connection.
func (s *server) natsState(err error) {
	if s.clustered.ending.Load() {
		return
	}
	if err != nil {
		s.log.Warn("connection to NATS is lost; trying to connect again", "component", "nats", "err", err)
		return
	}
	s.log.Info("connection to NATS is back", "component", "nats")
}

// replicas is how many copies new streams get; 0 leaves those that there are as they are.
func (s *server) replicas() int {
	if n := s.cfg.Cluster.Replicas; n != 0 || !s.cfg.embedded() {
		return n
	}
	if len(split(s.cfg.Embedded.Peers)) >= 3 {
		return 3
	}
	return 1
}

// split reads a list with commas.
func split(list string) (out []string) {
	for part := range strings.SplitSeq(list, ",") {
		if part = strings.TrimSpace(part); part != "" {
			out = append(out, part)
		}
	}
	return out
}

// joinCluster builds the directory and becomes a member that owns nothing yet.
func (s *server) joinCluster(ctx context.Context, cfg *actors.DeviceConfig) (err error) {
	c := s.clustered
	if c.shared, err = cluster.OpenShared(ctx, c.store, s.log.With("component", "directory")); err != nil {
		return err
	}
	s.directory = c.shared.Directory
	c.paths = startPaths(c.name, time.Now, func(body []byte) { c.node.TellNodes(kindPaths, body) })
	c.relay = actors.NewRelay(actors.RelayConfig{
		Node: c.name, Local: s.transmitter, NodeOf: c.nodeOf, Clock: time.Now, Log: s.log.With("component", "transmitter"),
		Ask: func(ctx context.Context, to, kind string, body []byte) ([]byte, error) {
			return c.node.AskNode(ctx, to, kind, body)
		},
	})
	cfg.Index, cfg.Transmitter = c.shared, c.relay
	js, _, err := jetstream.Domain(c.nats, s.cfg.NATS.Domain)
	if err != nil {
		return err
	}
	c.node, err = node.Start(ctx, node.Config{
		Name: c.name, Listen: s.cfg.Cluster.Listen, Advertise: s.advertise(), TLS: s.clusterTLS(), JetStream: js, Namespace: s.cfg.Cluster.Namespace, Replicas: s.replicas(),
		Lease: s.cfg.Cluster.Lease, SuspendLimit: s.cfg.Cluster.SuspendLimit, Version: buildVersion(), Protocol: protocol, OldestProtocol: oldestProtocol,
		Sealer: c.sealer,
		OnLost: func(err error) { c.lost.Store(true); s.failed <- lostError{err} },
		Codec:  actors.Codec{}, Handlers: s.nodeHandlers(), IdleAfter: s.cfg.Radio.PassivateAfter, Clock: time.Now, Log: s.log.With("component", "cluster"), Registerer: s.metrics,
	}, func(id messages.DeviceID) actor.Actor { return actors.NewDevice(cfg, id) })
	if err != nil {
		return err
	}
	s.router = c.node
	return nil
}

// lostError ends a node that lost its place in the cluster; a supervisor starts it anew.
type lostError struct{ error }

func (e lostError) Unwrap() error { return e.error }

// exitLost is the exit code of a node that lost its place: EX_TEMPFAIL of sysexits.h.
const exitLost = 75

// advertise is how the other nodes reach this one.
func (s *server) advertise() string {
	if s.cfg.Cluster.Advertise != "" {
		return s.cfg.Cluster.Advertise
	}
	host, port, err := net.SplitHostPort(s.cfg.Cluster.Listen)
	if ip := net.ParseIP(host); err == nil && (host == "" || ip != nil && ip.IsUnspecified()) {
		if name, err := os.Hostname(); err == nil {
			return net.JoinHostPort(name, port)
		}
	}
	return s.cfg.Cluster.Listen
}

func (s *server) clusterTLS() *node.TLS {
	cfg := s.cfg.Cluster
	if cfg.TLSCert == "" {
		return nil
	}
	return &node.TLS{CertFile: cfg.TLSCert, KeyFile: cfg.TLSKey, CAFile: cfg.TLSCA}
}

// nodeOf is where the downlink path of a radio gateway ends; false if that is not known or the node is gone.
func (c *clustered) nodeOf(eui messages.EUI64) (string, bool) {
	name, ok := c.paths.nodeOf(eui)
	if !ok || name != c.name && !slices.ContainsFunc(c.node.Members(), func(m node.Member) bool { return m.Name == name }) {
		return "", false
	}
	return name, true
}

// nodeHandlers answers what other nodes ask of this one.
func (s *server) nodeHandlers() map[string]node.Handler {
	return map[string]node.Handler{
		actors.KindTransmit: func(ctx context.Context, _ string, body []byte) ([]byte, error) {
			return s.clustered.relay.HandleTransmit(ctx, body)
		},
		kindPaths: func(_ context.Context, from string, body []byte) ([]byte, error) {
			s.clustered.paths.heard(from, body)
			return nil, nil
		},
		kindRelease: func(ctx context.Context, _ string, body []byte) ([]byte, error) {
			var keys []string
			if err := json.Unmarshal(body, &keys); err != nil {
				return nil, messages.Invalid("malformed_message", "list of integrations of another node: %w", err)
			}
			s.connector.release(ctx, keys)
			return nil, nil
		},
		kindHealth: func(ctx context.Context, _ string, body []byte) ([]byte, error) {
			return s.localHealth(ctx, string(body)), nil
		},
		kindIntegration: s.handleIntegration,
		kindNotice:      s.notices.handle,
		kindGatewayStats: func(_ context.Context, _ string, body []byte) ([]byte, error) {
			if len(body) != 8 {
				return nil, messages.Invalid("malformed_message", "EUI of another node")
			}
			stats, ok := s.localGatewayStats(messages.EUI64(body))
			if !ok {
				return nil, nil
			}
			return json.Marshal(stats)
		},
		kindNodeStats: func(ctx context.Context, _ string, _ []byte) ([]byte, error) { return json.Marshal(s.nodeStats(ctx)) },
	}
}

// owns and takeOver make the cluster the placement of integrations.
func (c *clustered) owns(key string) bool { return c.node.OwnsKey(key) }

func (c *clustered) takeOver(ctx context.Context, keys []string) {
	body, err := json.Marshal(keys)
	if err != nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	var all sync.WaitGroup
	for _, m := range c.node.Members() {
		if !m.Self {
			all.Go(func() { _, _ = c.node.AskNode(ctx, m.Name, kindRelease, body) }) // a node that does not answer is about to be removed
		}
	}
	all.Wait()
}

// askOwner asks the node that runs an integration for its health.
func (s *server) askOwner(ctx context.Context, key string) json.RawMessage {
	owner := s.clustered.node.OwnerOfKey(key)
	if owner == "" || owner == s.clustered.name {
		return s.localHealth(ctx, key)
	}
	body, err := s.clustered.node.AskNode(ctx, owner, kindHealth, []byte(key))
	if err != nil || len(body) == 0 {
		return nil
	}
	return body
}

// remoteGatewayStats asks the node where the radio gateway is connected.
func (s *server) remoteGatewayStats(eui messages.EUI64) (v3.GatewayConnectionStats, bool) {
	var out v3.GatewayConnectionStats
	name, ok := s.clustered.nodeOf(eui)
	if !ok || name == s.clustered.name {
		return out, false
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	body, err := s.clustered.node.AskNode(ctx, name, kindGatewayStats, eui[:])
	if err != nil || len(body) == 0 {
		return out, false
	}
	return out, json.Unmarshal(body, &out) == nil
}

const (
	lagsShown   = 100                    // of a node: those of the integrations that are furthest behind
	lagPatience = 700 * time.Millisecond // less than who asks has
)

func (s *server) nodeStats(ctx context.Context) messages.NodeStats {
	ctx, cancel := context.WithTimeout(ctx, lagPatience)
	defer cancel()
	out := messages.NodeStats{DevicesAwake: s.router.Alive(), DevicesKnown: s.directory.Len(), FramesInFlight: s.ingress.InFlight(), Integrations: s.connector.count(),
		IntegrationLags: s.integrations.Lags(ctx, lagsShown)}
	if s.clustered != nil {
		out.RadioGateways = s.clustered.paths.here()
	}
	return out
}

// clusterStatus is what GET /api/v3/cluster shows.
func (s *server) clusterStatus(ctx context.Context) messages.ClusterStatus {
	if s.clustered == nil {
		stats := s.nodeStats(ctx)
		name, _ := os.Hostname()
		return messages.ClusterStatus{Mode: "single", Node: name, Store: "badger", Members: []messages.ClusterMember{{Name: name, Version: buildVersion(), State: "alive", Since: s.startedAt, Figures: &stats}}}
	}
	c := s.clustered
	out := messages.ClusterStatus{Mode: "cluster", Node: c.name, Store: "jetstream"}
	if err := c.node.Suspended(); err != nil {
		out.Suspended = err.Error()
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	members := c.node.Members()
	out.Members = make([]messages.ClusterMember, len(members))
	var all sync.WaitGroup
	for i, m := range members {
		out.Members[i] = messages.ClusterMember{Name: m.Name, Address: m.Address, Version: m.Version, State: string(m.State), Since: m.Since, LeaseAge: m.LeaseAge.Seconds(), Shards: m.Shards}
		all.Go(func() {
			stats, err := c.statsOf(ctx, m, s)
			if err != nil {
				out.Members[i].LastError = err.Error()
				return
			}
			out.Members[i].Figures = &stats
		})
	}
	all.Wait()
	return out
}

func (c *clustered) statsOf(ctx context.Context, m node.Member, s *server) (stats messages.NodeStats, err error) {
	if m.Self {
		return s.nodeStats(ctx), nil
	}
	body, err := c.node.AskNode(ctx, m.Name, kindNodeStats, nil)
	if err == nil {
		err = json.Unmarshal(body, &stats)
	}
	return stats, err
}

// activate makes the node take its share of devices and integrations.
func (c *clustered) activate(ctx context.Context, k *connector) error {
	c.node.OnTopology(func() {
		k.replace()
		c.paths.retell()
	})
	if err := c.node.Activate(ctx); err != nil {
		return err
	}
	k.replace()
	return nil
}

// mqttPatience is how long MQTT clients stay at a node that is suspended. While NATS is away for all nodes, others have no more to tell; a node that alone
// is cut off should send its clients on.
const mqttPatience = 10 * time.Second

// watchFitness sends the MQTT clients away from a node that is suspended for long.
func (c *clustered) watchFitness(ctx context.Context, b *broker.Server) {
	ctx, c.watching = context.WithCancel(context.WithoutCancel(ctx))
	go func() {
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		fit, away := time.Now(), false
		for {
			select {
			case <-ctx.Done():
				return
			case now := <-tick.C:
				suspended := c.node.Suspended() != nil
				if !suspended {
					fit = now
				}
				if long := suspended && now.Sub(fit) > mqttPatience; long != away {
					away = long
					b.Suspend(away)
				}
			}
		}
	}()
}

// leave hands over what this node has, and returns when the others have it.
func (c *clustered) leave(ctx context.Context) error {
	if c.node == nil || c.lost.Load() {
		return nil
	}
	return errors.Join(c.node.Leave(ctx), c.shared.Flush(ctx))
}

// stop ends the parts that carry the others.
func (c *clustered) stop() {
	if c.watching != nil {
		c.watching()
	}
	if c.paths != nil {
		c.paths.stop()
	}
	if c.relay != nil {
		c.relay.Close()
	}
	if c.shared != nil {
		c.shared.Close()
	}
}

// disconnect comes after the store was closed.
func (c *clustered) disconnect() {
	c.ending.Store(true)
	if c.nats != nil {
		c.nats.Close()
	}
	if c.embedded != nil {
		c.embedded.Close()
	}
}
