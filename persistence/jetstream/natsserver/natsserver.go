// Package natsserver is a NATS server with JetStream inside the process: the storage of a cluster that runs no NATS of its own, and of the tests.
//
// Every write of a raft group is synced to disk before it counts (SyncAlways), since a commit of Lorikeet says "durable" and nodes of one rack
// lose power together.
//
// What fail-over means: if the server that leads a stream is stopped in order it hands over in about half a second. If it dies, the others notice
// after the election time-out of nats-server, which is fixed at 4 to 9 seconds. Until then commits of a part of the applications (those whose
// stream it led) wait; they are not lost, but receive windows in that time are missed. A node that embeds its server takes it along when it dies.
package natsserver

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// User is the name under which clients and other servers of the cluster log in with Config.Secret.
const User = "lorikeet"

const (
	defaultMaxPayload = 8 << 20
	defaultBatch      = 5_000 // messages of one atomic change: persistence.MaxWrites
	readyPoll         = 20 * time.Millisecond
	tlsTimeout        = 5 // seconds
)

// Config of an embedded server. StoreDir is required; with ClusterListen also Name and ClusterName.
type Config struct {
	Name     string // unique in the cluster, and the same after a restart: the raft groups know a server by its name
	StoreDir string // folder of the streams
	Listen   string // host:port for clients, port 0 for any; "": only connections from inside the process, and in a cluster from this machine

	ClusterName   string
	ClusterListen string // host:port for the other servers; "": this server is alone
	// Routes are host:port of the other servers, not of this one: the first start of a cluster waits for a majority of the routes and itself.
	Routes []string
	// Secret is asked of clients and of other servers. It is required where the server listens on anything but loopback.
	Secret string
	// TLS is used on the connections between servers, and for clients if Listen is set. Nil: none.
	TLS *tls.Config

	MaxPayload int32 // bytes of one message; 0: 8 MiB
	NoSync     bool  // do not sync each write: for measurements
	Logger     *slog.Logger
}

// Server is a running server.
type Server struct {
	ns     *server.Server
	secret string
	tls    bool
}

// Start runs a server and returns when its JetStream can be used: in a cluster when a majority of the servers is there and has a leader, or ctx ends.
func Start(ctx context.Context, cfg Config) (*Server, error) {
	opts, err := cfg.options()
	if err != nil {
		return nil, err
	}
	ns, err := server.NewServer(opts)
	if err != nil {
		return nil, fmt.Errorf("embedded NATS server: %w", scrub(cfg.Secret, err))
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	l := &logger{log: cfg.Logger.With("component", "nats-server"), secret: cfg.Secret}
	ns.SetLoggerV2(l, false, false, false)
	ns.Start()
	if fatal := l.fatal.Load(); fatal != nil {
		ns.Shutdown()
		return nil, fmt.Errorf("embedded NATS server: it did not start: %s. Check that its ports are free and its folder can be written", *fatal)
	}
	s := &Server{ns: ns, secret: cfg.Secret, tls: cfg.TLS != nil && cfg.Listen != ""}
	if err := s.wait(ctx, cfg.ClusterListen != ""); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

func (s *Server) wait(ctx context.Context, clustered bool) error {
	tick := time.NewTicker(readyPoll)
	defer tick.Stop()
	for {
		up := s.ns.JetStreamEnabled() && s.ns.ReadyForConnections(readyPoll)
		if up && (!clustered || s.ns.JetStreamIsCurrent()) {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			if clustered && up {
				return fmt.Errorf("embedded NATS server: no majority of the cluster is there: start the other nodes, and check the routes: %w", ctx.Err())
			}
			return fmt.Errorf("embedded NATS server does not get ready: check its log, its ports and its folder: %w", ctx.Err())
		}
	}
}

func (c Config) options() (*server.Options, error) {
	if c.StoreDir == "" {
		return nil, errors.New("embedded NATS server: StoreDir is needed")
	}
	if c.ClusterListen != "" && (c.Name == "" || c.ClusterName == "") {
		return nil, errors.New("embedded NATS server: a cluster needs Name and ClusterName")
	}
	o := &server.Options{
		ServerName: c.Name, StoreDir: c.StoreDir, JetStream: true, SyncAlways: !c.NoSync, MaxPayload: c.MaxPayload,
		NoSigs: true, DisableJetStreamBanner: true, DontListen: c.Listen == "",
		JetStreamLimits: server.JSLimitOpts{MaxBatchSize: defaultBatch},
	}
	if o.MaxPayload == 0 {
		o.MaxPayload = defaultMaxPayload
	}
	if c.Secret != "" {
		o.Users = []*server.User{{Username: User, Password: c.Secret}}
	}
	var err error
	if c.Listen != "" {
		if o.Host, o.Port, err = c.address("Listen", c.Listen); err != nil {
			return nil, err
		}
		o.TLSConfig, o.TLSTimeout = c.TLS, tlsTimeout
	}
	if c.ClusterListen == "" {
		return o, nil
	}
	if c.Listen == "" {
		// nats-server begins to connect its routes only when it listens for clients.
		o.DontListen, o.Host, o.Port = false, "127.0.0.1", server.RANDOM_PORT
	}
	o.Cluster = server.ClusterOpts{Name: c.ClusterName, PoolSize: 3, TLSConfig: c.TLS, TLSTimeout: tlsTimeout}
	if o.Cluster.Host, o.Cluster.Port, err = c.address("ClusterListen", c.ClusterListen); err != nil {
		return nil, err
	}
	if c.Secret != "" {
		o.Cluster.Username, o.Cluster.Password = User, c.Secret
	}
	for _, r := range c.Routes {
		if r == c.ClusterListen {
			continue
		}
		if _, _, err := net.SplitHostPort(r); err != nil {
			return nil, fmt.Errorf("embedded NATS server: route %q: want host:port", r)
		}
		u := &url.URL{Scheme: "nats-route", Host: r}
		if c.Secret != "" {
			u.User = url.UserPassword(User, c.Secret)
		}
		o.Routes = append(o.Routes, u)
	}
	return o, nil
}

// address reads host:port and refuses to be open to the network without a secret.
func (c Config) address(what, s string) (string, int, error) {
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return "", 0, fmt.Errorf("embedded NATS server: %s %q: want host:port", what, s)
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return "", 0, fmt.Errorf("embedded NATS server: %s %q: want host:port with a port of 0 to 65535", what, s)
	}
	if ip := net.ParseIP(host); c.Secret == "" && host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return "", 0, fmt.Errorf("embedded NATS server: %s is %s and no secret is set: whoever reaches the port could read and change everything. Set the cluster secret", what, s)
	}
	if n == 0 {
		return host, server.RANDOM_PORT, nil
	}
	return host, int(n), nil
}

// ClientOptions connect to this server from inside the process.
func (s *Server) ClientOptions() []nats.Option {
	opts := []nats.Option{nats.InProcessServer(s.ns)}
	if s.secret != "" {
		opts = append(opts, nats.UserInfo(User, s.secret))
	}
	if s.tls {
		// Nobody stands between the two ends of a pipe in one process.
		opts = append(opts, nats.Secure(&tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12}))
	}
	return opts
}

// ClientURL is where clients connect; "" if the server does not listen.
func (s *Server) ClientURL() string {
	if s.ns.Addr() == nil {
		return ""
	}
	return s.ns.ClientURL()
}

// ClusterAddr is where other servers connect; "" if the server is alone.
func (s *Server) ClusterAddr() string {
	if a := s.ns.ClusterAddr(); a != nil {
		return a.String()
	}
	return ""
}

// Leads says whether this server leads a stream.
func (s *Server) Leads(stream string) bool {
	return s.ns.JetStreamIsStreamLeader(server.DEFAULT_GLOBAL_ACCOUNT, stream)
}

// Close hands leadership over and stops the server. Closing again does nothing.
func (s *Server) Close() {
	s.ns.Shutdown()
	s.ns.WaitForShutdown()
}

// logger gives the messages of nats-server to slog, less loudly: what it calls a notice is for debugging.
type logger struct {
	log    *slog.Logger
	secret string
	fatal  atomic.Pointer[string] // why the server could not start
}

func (l *logger) say(log func(string, ...any), format string, args []any) {
	log("nats-server", "detail", hide(l.secret, fmt.Sprintf(format, args...)))
}

func (l *logger) Noticef(format string, args ...any) { l.say(l.log.Debug, format, args) }
func (l *logger) Warnf(format string, args ...any)   { l.say(l.log.Info, format, args) }
func (l *logger) Errorf(format string, args ...any)  { l.say(l.log.Warn, format, args) }
func (l *logger) Fatalf(format string, args ...any) {
	text := hide(l.secret, fmt.Sprintf(format, args...))
	l.fatal.CompareAndSwap(nil, &text)
	l.say(l.log.Error, format, args)
}
func (l *logger) Debugf(string, ...any) {}
func (l *logger) Tracef(string, ...any) {}

func hide(secret, text string) string {
	if secret == "" {
		return text
	}
	return strings.NewReplacer(secret, "***", url.QueryEscape(secret), "***", url.PathEscape(secret), "***").Replace(text)
}

func scrub(secret string, err error) error {
	if text := err.Error(); secret != "" && hide(secret, text) != text {
		return errors.New(hide(secret, text))
	}
	return err
}
