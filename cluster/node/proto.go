package node

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	protocluster "github.com/asynkron/protoactor-go/cluster"
	"github.com/asynkron/protoactor-go/remote"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	"lorikeet/cluster"
	"lorikeet/messages"
)

// never is for what protoactor would do by itself and membership does here.
const never = 24 * time.Hour

// startActors starts the actor system, its doors to other nodes, and the device actors. It gives the address that others dial.
func (n *Node) startActors(newActor func(messages.DeviceID) actor.Actor) (address string, err error) {
	listen, err := remoteConfig(n.cfg)
	if err != nil {
		return "", err
	}
	n.system = actor.NewActorSystem(actor.WithLoggerFactory(func(*actor.ActorSystem) *slog.Logger { return slog.New(newQuietHandler(n.log)) }))
	n.system.ID = n.id // the members are known by it
	n.local = cluster.StartLocal(cluster.LocalConfig{System: n.system, IdleAfter: n.cfg.IdleAfter, Clock: n.cfg.Clock,
		Owns: n.Owns, Fit: n.members.fit, Refuse: n.refuse}, newActor)
	config := protocluster.Configure(n.cfg.Namespace, provider{}, lookup{n}, listen,
		protocluster.WithKinds(protocluster.NewKind(kindDevice, nobody), protocluster.NewKind(kindIntegration, nobody)),
		protocluster.WithClusterContextProducer(func(*protocluster.Cluster) protocluster.Context { return requester{n} }),
		protocluster.WithHeartbeatExpiration(never))
	config.GossipInterval = never // membership has one source of truth
	n.proto = protocluster.New(n.system, config)
	// It panics where it should return an error, for instance if the port is in use.
	defer func() {
		if r := recover(); r != nil {
			err = errors.Join(fmt.Errorf("listen for other nodes on %s: %v", n.cfg.Listen, r), n.local.Stop(context.Background()))
			n.system.Shutdown()
		}
	}()
	n.proto.StartMember()
	return n.system.Address(), nil
}

// nobody is what the kinds consist of for protoactor: their actors are spawned by cluster.Local.
var nobody = actor.PropsFromFunc(func(actor.Context) {})

// stopActors closes the connections and ends the actor system.
func (n *Node) stopActors() {
	for _, p := range n.table.Load().byID {
		if p.ID != n.id {
			n.system.EventStream.Publish(&remote.EndpointTerminatedEvent{Address: p.Address})
		}
	}
	n.proto.Gossip.Shutdown()
	n.proto.Shutdown(false)
}

// feed shows protoactor the members, so that it closes the connections to those that have left.
func (n *Node) feed(members []Member) {
	var list protocluster.Members
	for _, m := range members {
		host, port, err := splitAddress(m.Address)
		if err != nil {
			n.log.Warn("address of a cluster member is of no use", "node", m.Name, "err", err)
			continue
		}
		list = append(list, &protocluster.Member{Id: m.ID, Host: host, Port: int32(port), Kinds: []string{kindDevice, kindIntegration}})
	}
	n.proto.MemberList.UpdateClusterTopology(list)
}

// splitAddress keeps the brackets of an IPv6 host, for protoactor joins the parts with a colon.
func splitAddress(address string) (host string, port int, err error) {
	host, p, err := net.SplitHostPort(address)
	if err != nil {
		return "", 0, err
	}
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	n, err := strconv.ParseUint(p, 10, 16)
	return host, int(n), err
}

// provider has nothing to do: the node feeds the members itself, after it has joined.
type provider struct{}

func (provider) StartMember(*protocluster.Cluster) error { return nil }
func (provider) StartClient(*protocluster.Cluster) error { return errors.New("a node is a member") }
func (provider) Shutdown(bool) error                     { return nil }

// lookup gives the keeper of an identity.
type lookup struct{ node *Node }

// Get gives the keeper on the node that owns the identity; nil if none is alive.
func (l lookup) Get(ci *protocluster.ClusterIdentity) *actor.PID {
	shard := keyShard(ci.Kind, ci.Identity)
	p := l.node.table.Load().owners[shard]
	if p == nil {
		return nil
	}
	return actor.NewPID(p.Address, keeperOf(shard))
}

// Setup spawns the actors that other nodes write to. Nothing comes in before.
func (l lookup) Setup(c *protocluster.Cluster, _ []string, _ bool) {
	n := l.node
	spawn := func(name string, a actor.Actor) *actor.PID {
		pid, err := c.ActorSystem.Root.SpawnNamed(actor.PropsFromProducer(func() actor.Actor { return a }), name)
		if err != nil {
			panic(fmt.Errorf("actor %s: %w", name, err)) // startActors makes it an error
		}
		return pid
	}
	for _, name := range keeperNames {
		spawn(name, &keeper{n})
	}
	spawn(doormanName, &doorman{n})
	n.answers = spawn("answers", &answersActor{n})
}

func (lookup) RemovePid(*protocluster.ClusterIdentity, *actor.PID) {}
func (lookup) Shutdown()                                           {}

// requester makes protoactor's cluster.Request one of our requests: it ends with its deadline and is not sent again blindly.
type requester struct{ node *Node }

// Request asks the device whose UID is the identity.
func (r requester) Request(identity, kind string, message any, opts ...protocluster.GrainCallOption) (any, error) {
	id, err := messages.ParseUID(identity)
	if err != nil || kind != kindDevice {
		return nil, messages.Invalid("invalid_identity", "only devices are asked: want kind %q and a device UID, got kind %q and %q", kindDevice, kind, identity)
	}
	call := protocluster.NewGrainCallOptions(r.node.proto)
	for _, o := range opts {
		o(call)
	}
	ctx, cancel := context.WithTimeout(r.node.ctx, call.Timeout)
	defer cancel()
	return r.node.Ask(ctx, id, message)
}

// RequestFuture is refused: its futures outlive the owner they were made for.
func (r requester) RequestFuture(string, string, any, ...protocluster.GrainCallOption) (*actor.Future, error) {
	return nil, errors.New("use Request")
}

const maxMessage = 64 << 20 // bytes of one batch

// remoteConfig is the connection between nodes.
func remoteConfig(cfg Config) (*remote.Config, error) {
	host, port, err := splitAddress(cfg.Listen)
	if err != nil {
		return nil, messages.Invalid("cluster_listen", "cluster listen address %q: want host:port", cfg.Listen)
	}
	dialed := cfg.Advertise
	if dialed == "" {
		dialed = cfg.Listen
	}
	if h, _, err := net.SplitHostPort(dialed); err != nil || h == "" || net.ParseIP(h).IsUnspecified() {
		return nil, messages.Invalid("cluster_advertise", "other nodes can't dial %q: set the advertised cluster address to host:port as they reach this node", dialed)
	}
	server, client, err := credentialsOf(cfg)
	if err != nil {
		return nil, err
	}
	c := remote.Configure(host, port,
		remote.WithEndpointWriterBatchSize(200), remote.WithEndpointWriterQueueSize(1000),
		remote.WithServerOptions(grpc.Creds(server), grpc.MaxRecvMsgSize(maxMessage), grpc.MaxSendMsgSize(maxMessage),
			grpc.KeepaliveParams(keepalive.ServerParameters{Time: 2 * cfg.Lease, Timeout: cfg.Lease}),
			grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: time.Second, PermitWithoutStream: true}),
			grpc.StreamInterceptor(recoverStream), grpc.UnaryInterceptor(refuseUnary)),
		remote.WithDialOptions(grpc.WithTransportCredentials(client),
			grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage), grpc.MaxCallSendMsgSize(maxMessage)),
			grpc.WithConnectParams(grpc.ConnectParams{Backoff: backoff.DefaultConfig, MinConnectTimeout: cfg.Lease}),
			// gRPC does not ping more often than each 10 s from this side; the other side does.
			grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: cfg.Lease, PermitWithoutStream: true})))
	c.MaxRetryCount = 1 // a new connection is tried with the next message
	c.AdvertisedHost = cfg.Advertise
	return c, nil
}

// recoverStream keeps a batch that can't be read, such as one with a message of a type that this version does not know, from ending the process.
func recoverStream(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handle grpc.StreamHandler) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = status.Errorf(codes.InvalidArgument, "message can't be read: %v", r)
		}
	}()
	return handle(srv, stream)
}

// refuseUnary refuses protoactor's diagnostics, which end in a panic.
func refuseUnary(context.Context, any, *grpc.UnaryServerInfo, grpc.UnaryHandler) (any, error) {
	return nil, status.Error(codes.Unimplemented, "not served")
}

func credentialsOf(cfg Config) (server, client credentials.TransportCredentials, err error) {
	if cfg.TLS == nil {
		cfg.Log.Warn("nodes talk without TLS: use it unless their network is closed to others")
		return insecure.NewCredentials(), insecure.NewCredentials(), nil
	}
	pool, err := cfg.TLS.pool()
	if err != nil {
		return nil, nil, err
	}
	if _, err := cfg.TLS.certificate(); err != nil {
		return nil, nil, err
	}
	server = credentials.NewTLS(&tls.Config{MinVersion: tls.VersionTLS13, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return cfg.TLS.certificate() }})
	client = credentials.NewTLS(&tls.Config{MinVersion: tls.VersionTLS13, RootCAs: pool,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return cfg.TLS.certificate() }})
	return server, client, nil
}
