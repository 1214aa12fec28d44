package node

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	protocluster "github.com/asynkron/protoactor-go/cluster"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/oklog/ulid/v2"
	"github.com/prometheus/client_golang/prometheus"

	"lorikeet/cluster"
	"lorikeet/messages"
)

// Codec turns messages to device actors into their wire form and back.
type Codec interface {
	Encode(message any) (kind string, body []byte, err error)
	// Decode answers an unknown kind with a messages.Error that says so.
	Decode(kind string, body []byte) (any, error)
	// Repeatable says whether a command may be carried out twice.
	Repeatable(kind string) bool
	EncodeAnswer(kind string, value any) ([]byte, error)
	DecodeAnswer(kind string, body []byte) (any, error)
}

// Tracked is a message that the node which took it in keeps until the owner of its device has settled it; handling it twice must be harmless.
// The device actor calls Settle once, when the message needs no more work; OnSettled says what is to be done then.
type Tracked interface {
	OnSettled(func())
	Settle()
}

// Handler takes a message from another node. Messages that nobody waits for come one after the other, so their handler must not block.
type Handler func(ctx context.Context, from string, body []byte) ([]byte, error)

// TLS names the files of mutual TLS between the nodes. The certificate is read again for each new connection, so it can be renewed in place.
type TLS struct {
	CertFile, KeyFile string
	CAFile            string // who signs the certificates of all nodes
}

// Config configures a Node.
type Config struct {
	Name      string // unique and stable, such as the host name: a node that comes back gets its devices back
	Listen    string // host:port
	Advertise string // host:port that the others dial; Listen if empty
	TLS       *TLS   // nil: plaintext

	// JetStream should belong to a connection that reconnects for ever and waits at most half a second between attempts: a node that comes
	// back to NATS much later than the others may be removed.
	JetStream jetstream.JetStream
	Namespace string // "lorikeet" if empty
	Replicas  int    // of the bucket of the members; 0: as it is, 1 for a new one

	Lease        time.Duration // how long a silent node keeps its devices; 2 s if zero
	SuspendLimit time.Duration // how long a node waits for JetStream before it gives up; 60 s if zero

	Version                  string
	Protocol, OldestProtocol int // what is spoken between nodes, and the oldest that is still understood

	Sealer   Sealer      // for messages that go through NATS while two nodes don't reach each other; nil: none do
	OnLost   func(error) // called once: the node was removed or can't go on, and the process must end
	Codec    Codec
	Handlers map[string]Handler // by kind; they may be called before Start returns

	IdleAfter  time.Duration // see cluster.LocalConfig
	Clock      func() time.Time
	Log        *slog.Logger
	Registerer prometheus.Registerer // nil: metrics are registered nowhere
}

func (c Config) withDefaults() (Config, error) {
	if c.Namespace == "" {
		c.Namespace = "lorikeet"
	}
	if c.Lease == 0 {
		c.Lease = 2 * time.Second
	}
	if c.SuspendLimit == 0 {
		c.SuspendLimit = time.Minute
	}
	c.SuspendLimit = max(c.SuspendLimit, c.Lease)
	c.OldestProtocol = min(c.OldestProtocol, c.Protocol)
	if c.OldestProtocol == 0 {
		c.OldestProtocol = c.Protocol
	}
	switch {
	case c.Name == "":
		return c, messages.Invalid("node_name", "a node of a cluster needs a name: set one that stays the same over restarts")
	case c.JetStream == nil || c.Codec == nil || c.OnLost == nil || c.Clock == nil || c.Log == nil:
		return c, errors.New("node: JetStream, Codec, OnLost, Clock and Log are required")
	}
	return c, nil
}

// Node is this node among the others. It reaches the actor of any device, wherever it lives.
type Node struct {
	cfg     Config
	id      string // of this incarnation
	began   time.Time
	log     *slog.Logger
	limit   *logLimit // of what may come once a frame
	system  *actor.ActorSystem
	proto   *protocluster.Cluster
	local   *cluster.Local
	members *membership
	metrics *metrics

	table   atomic.Pointer[table]
	turn    atomic.Pointer[chan struct{}] // closed when the table is replaced
	signal  chan struct{}                 // the table may have to be replaced
	seen    revisions                     // up to which the table is true
	calls   calls
	frames  frames
	detours detours
	answers *actor.PID
	handled atomic.Uint64 // messages for devices that came from other nodes

	mu    sync.Mutex
	hooks []func()

	detourSub *nats.Subscription // nil: none

	ctx  context.Context // ends with Stop
	stop context.CancelFunc
	wg   sync.WaitGroup
	once sync.Once
}

// Start joins the cluster. The node is visible to the others and can ask, but owns nothing until Activate. newActor makes the actor of a device, as in
// cluster.StartLocal. A name that is in use, or a protocol that the others don't speak, is refused.
func Start(ctx context.Context, cfg Config, newActor func(messages.DeviceID) actor.Actor) (*Node, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	n := &Node{cfg: cfg, began: cfg.Clock(), log: cfg.Log, limit: newLogLimit(), signal: make(chan struct{}, 1)}
	id, err := ulid.New(ulid.Timestamp(n.began), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("id of this node: %w", err)
	}
	n.id = id.String()
	n.ctx, n.stop = context.WithCancel(context.Background())
	n.metrics = newMetrics(n)
	n.table.Store(newTable(n.id, nil))
	turn := make(chan struct{})
	n.turn.Store(&turn)
	var kv jetstream.KeyValue
	if err := patiently(ctx, n.log, func() (err error) {
		ctx, cancel := context.WithTimeout(ctx, tryPatience)
		defer cancel()
		kv, err = openBucket(ctx, cfg.JetStream, cfg.Namespace, cfg.Replicas)
		return err
	}); err != nil {
		return nil, err
	}
	n.members = &membership{kv: kv, id: n.id, lease: cfg.Lease, limit: cfg.SuspendLimit, now: n.now, log: n.log, changed: n.poke, onLost: cfg.OnLost}
	address, err := n.startActors(newActor)
	if err != nil {
		return nil, err
	}
	n.members.own = record{Name: cfg.Name, Address: address, Version: cfg.Version, Protocol: cfg.Protocol, OldestProtocol: cfg.OldestProtocol,
		State: StateJoining, Since: n.began, Detour: cfg.Sealer != nil, Lease: cfg.Lease}
	if err := n.takeDetours(); err != nil {
		return nil, errors.Join(err, n.shutdown(ctx))
	}
	if err := patiently(ctx, n.log, func() error { return n.members.join(ctx) }); err != nil {
		return nil, errors.Join(err, n.shutdown(ctx))
	}
	n.members.start()
	n.wg.Go(n.follow)
	n.wg.Go(n.resend)
	if err := n.seen.wait(ctx, n.members.revision.Load()); err != nil {
		return nil, errors.Join(fmt.Errorf("join the cluster: the own record did not come back: %w", err), n.Stop(ctx))
	}
	n.metrics.register(cfg.Registerer)
	n.log.Info("joined the cluster", "node", cfg.Name, "address", address, "members", len(n.table.Load().peers))
	return n, nil
}

// Activate makes the node own its share. The application calls it once it can serve devices.
func (n *Node) Activate(ctx context.Context) error {
	revision, err := n.members.set(ctx, StateAlive)
	if err != nil {
		return err
	}
	return n.seen.wait(ctx, revision)
}

// now is the monotonic time since the start.
func (n *Node) now() time.Duration { return n.cfg.Clock().Sub(n.began) }

// poke says that the members or the fitness of this node have changed.
func (n *Node) poke() {
	select {
	case n.signal <- struct{}{}:
	default:
	}
}

// follow replaces the table when the members have changed, and does what follows from that.
func (n *Node) follow() {
	for {
		select {
		case <-n.signal:
		case <-n.ctx.Done():
			return
		}
		members, revision := n.members.list()
		t := newTable(n.id, members)
		n.table.Store(t)
		n.feed(members)
		n.wg.Go(func() {
			// Stop ends the actors in any case.
			_ = n.local.StopWhere(n.ctx, func(id messages.DeviceID) bool {
				return !t.owns(deviceShard(id)) && !n.table.Load().owns(deviceShard(id))
			})
		})
		n.calls.drop(t)
		n.frames.drop(t, n.now())
		turn := make(chan struct{})
		close(*n.turn.Swap(&turn))
		n.mu.Lock()
		hooks := n.hooks
		n.mu.Unlock()
		for _, f := range hooks {
			f()
		}
		n.seen.reach(revision)
	}
}

// OnTopology adds a function that is called after every change of the members or of this node's fitness. It must not block.
func (n *Node) OnTopology(f func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.hooks = append(n.hooks[:len(n.hooks):len(n.hooks)], f)
}

// Owns says whether the actor of a device lives on this node.
func (n *Node) Owns(id messages.DeviceID) bool {
	return n.members.fit() && n.table.Load().owns(deviceShard(id))
}

// OwnsKey says whether this node is to run the integration with this key.
func (n *Node) OwnsKey(key string) bool {
	return n.members.fit() && n.table.Load().owns(keyShard(kindIntegration, key))
}

// OwnerOf gives the name of the node where the actor of a device lives; "" if no node is alive.
func (n *Node) OwnerOf(id messages.DeviceID) string {
	if p := n.table.Load().owners[deviceShard(id)]; p != nil {
		return p.Name
	}
	return ""
}

// OwnerOfKey gives the name of the node that is to run the integration with this key; "" if no node is alive.
func (n *Node) OwnerOfKey(key string) string {
	if p := n.table.Load().owners[keyShard(kindIntegration, key)]; p != nil {
		return p.Name
	}
	return ""
}

// Alive is the number of awake device actors on this node.
func (n *Node) Alive() int { return n.local.Alive() }

// Members lists the nodes that live, ordered by name.
func (n *Node) Members() []Member {
	members, _ := n.members.list()
	t := n.table.Load()
	for i := range members {
		if p := t.peers[members[i].Name]; p != nil && p.ID == members[i].ID {
			members[i].Shards = t.owned[p.ID]
		}
	}
	return members
}

// Suspended says why this node handles nothing at the moment; nil if it does.
func (n *Node) Suspended() error {
	if n.members.fit() {
		return nil
	}
	return errSuspended
}

var errSuspended = messages.Errorf(messages.CodeUnavailable, "node_suspended",
	"this node has lost touch with JetStream and handles nothing until it is back; look at the connection to NATS, or ask another node")

// Stop ends everything at once; after Leave it only cleans up. Without Leave the others take over when the lease has passed.
func (n *Node) Stop(ctx context.Context) error {
	var err error
	n.once.Do(func() {
		err = n.local.Stop(ctx)
		n.members.close()
		err = errors.Join(err, n.shutdown(ctx))
	})
	return err
}

// shutdown ends what startActors has begun.
func (n *Node) shutdown(ctx context.Context) error {
	err := n.local.Stop(ctx)
	if n.detourSub != nil {
		_ = n.detourSub.Unsubscribe() // the connection may be closed already
	}
	n.stop()
	n.wg.Wait()
	n.calls.drop(newTable(n.id, nil))
	n.frames.settleAll()
	n.stopActors()
	return err
}
