// Package broker is the embedded MQTT server, 3.1, 3.1.1 and 5, for the applications of this server: they read their events and send downlinks on the topics
// of The Things Stack v3.
//
// The MQTT library does the protocol: it reads and answers packets, once they are checked (intake.go, packet.go). What goes out to subscribers does not
// pass through it. Sessions, subscriptions and the delivery of events are in session.go and application.go, so that an event is matched once, copied once
// for each subscriber, never waits for one of them, and keeps its order and its packet id until it is confirmed.
//
// What the qualities of service mean here: QoS 0, an event is sent once to whoever is connected. QoS 1 and 2, it is sent from the durable log in the
// order of the log until the client confirms it, over reconnects, restarts and nodes for a session that is kept (lane.go). A client that lags or is away
// costs no memory; it loses something only if it stays away for longer than the log is kept, and then that is logged and counted.
package broker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/prometheus/client_golang/prometheus"

	"lorikeet/gateways"
	"lorikeet/messages"
	v3 "lorikeet/messages/v3"
)

// Config of a Server. Authorize, ApplicationExists, KeyRights, Downlinks and Store are required; a zero number means its default.
type Config struct {
	Listen             string // address to listen on, e.g. ":1883"; empty: none
	ListenTLS          string // for MQTT over TLS, e.g. ":8883"
	ListenWebSocket    string // for MQTT over WebSocket, on the path /mqtt
	ListenWebSocketTLS string // the same over TLS
	TLS                gateways.TLSFiles
	// WebSocketOrigins are the hosts whose pages may connect by WebSocket, beside the host itself: patterns such as "*.example.com", or "*" for all.
	WebSocketOrigins []string
	// MaxConnections in all, default 10000; half of them may come from one address.
	MaxConnections int
	// Authorize finds out what an API key may do. An error with CodeUnavailable lets the client try again, any other one refuses it.
	Authorize func(ctx context.Context, key string) (messages.Access, error)
	// ApplicationExists is asked at each login.
	ApplicationExists func(id string) bool
	// KeyRights says what an API key, named by its id, may do in an application; messages.ErrNotFound if it is gone. It is asked for sessions whose
	// client is away.
	KeyRights func(ctx context.Context, application, keyID string) (messages.Access, error)
	// LoginRefused is told of each client of an existing application that may not log in, unless its address had too many refusals already. It must not
	// block. Nil: nobody is.
	LoginRefused func(application string, reason error)
	Downlinks    Downlinks
	Input        v3.Input // how wrong downlinks are taken
	Store        Store
	// Node is the name of this server among those that share Store; empty if there are no others.
	Node string
	// MaxSessionExpiry is how long a session is kept for its client at most, default 30 days.
	MaxSessionExpiry time.Duration

	Log        *slog.Logger          // nil: none
	Registerer prometheus.Registerer // nil: no metrics

	// ConnectTimeout is the time for a connection to log in, default 5 s.
	ConnectTimeout time.Duration
	// CommandTimeout is the time for a downlink request to become durable, default 5 s. After it the client is disconnected without an answer.
	CommandTimeout time.Duration
	// WriteTimeout is how long a client may not read while something is to be sent, default 10 s.
	WriteTimeout time.Duration
	// WriteBuffer is how much may wait to be written to one client, in bytes, default 8 MiB. All together may have 32 times that.
	WriteBuffer int
}

// Downlinks changes the downlink queues of devices.
type Downlinks interface {
	// QueueDownlinks appends to a queue, or replaces it. Once that is durable it gives the items as they were accepted, with their ids.
	QueueDownlinks(ctx context.Context, device messages.DeviceID, downlinks []messages.Downlink, replace bool) ([]messages.Downlink, error)
	// FailDownlinks tells the application that downlinks it sent were refused, and why.
	FailDownlinks(ctx context.Context, device messages.DeviceID, downlinks []messages.Downlink, reason error) error
}

func (c *Config) setDefaults() {
	if c.MaxConnections == 0 {
		c.MaxConnections = 10000
	}
	if c.MaxSessionExpiry == 0 {
		c.MaxSessionExpiry = 30 * 24 * time.Hour
	}
	if c.LoginRefused == nil {
		c.LoginRefused = func(string, error) {}
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.ConnectTimeout == 0 {
		c.ConnectTimeout = 5 * time.Second
	}
	if c.CommandTimeout == 0 {
		c.CommandTimeout = 5 * time.Second
	}
	if c.WriteTimeout == 0 {
		c.WriteTimeout = 10 * time.Second
	}
	if c.WriteBuffer == 0 {
		c.WriteBuffer = 8 << 20
	}
}

// Server is a running MQTT server.
type Server struct {
	cfg        Config
	log        *slog.Logger
	metrics    *metrics
	mqtt       *mqtt.Server
	doors      []door
	doorkeeper *doorkeeper
	memory     memory // of the write buffers
	window     memory // of the events of QoS 1 and 2 that are not confirmed
	saver      saver
	turns      turns
	attempts   *attempts
	began      time.Time
	kept       keptSessions

	ctx        context.Context // ends what runs for clients
	cancel     context.CancelFunc
	running    sync.WaitGroup // accepts, serves and writes; ends with the connections
	background sync.WaitGroup // ends with ctx

	apps sync.Map // of *application by id

	mu          sync.Mutex
	sessions    map[sessionKey]*session
	byID        map[string]*session // by the id of the document
	wills       map[sessionKey]*time.Timer
	closed      bool
	revocations atomic.Int64 // a login that began before the last one is checked again
	lastClient  atomic.Int64
}

// Open listens and serves. The error is about the address, or metrics that are registered already.
func Open(cfg Config) (*Server, error) {
	cfg.setDefaults()
	s, err := newServer(cfg)
	if err != nil {
		return nil, err
	}
	if err := s.openDoors(); err != nil {
		_ = s.Close(context.Background())
		return nil, err
	}
	s.serveDoors()
	return s, nil
}

// newServer makes a server without a socket.
func newServer(cfg Config) (*Server, error) {
	s := &Server{
		cfg: cfg, log: cfg.Log, sessions: map[sessionKey]*session{}, byID: map[string]*session{}, wills: map[sessionKey]*time.Timer{},
		doorkeeper: newDoorkeeper(cfg.MaxConnections), saver: newSaver(), kept: newKeptSessions(), attempts: newAttempts(time.Now), began: time.Now(),
	}
	s.memory.limit = 32 * int64(cfg.WriteBuffer)
	s.window.limit = s.memory.limit / 2 // what lanes send never fills the buffers; the rest is for QoS 0
	var err error
	if s.metrics, err = newMetrics(cfg.Registerer, s); err != nil {
		return nil, err
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	capabilities := mqtt.NewDefaultServerCapabilities()
	capabilities.MaximumPacketSize = maxPacket
	capabilities.MaximumClientWritesPending = 1 // nothing goes out through the library's queue
	capabilities.MaximumSessionExpiryInterval = uint32(cfg.MaxSessionExpiry / time.Second)
	capabilities.TopicAliasMaximum = 0
	capabilities.Compatibilities.ObscureNotAuthorized = true
	capabilities.Compatibilities.NoInheritedPropertiesOnAck = true
	s.mqtt = mqtt.New(&mqtt.Options{
		Capabilities: capabilities, Logger: slog.New(quiet{cfg.Log.Handler()}), SysTopicResendInterval: 24 * 3600, ClientNetReadBufferSize: 1024,
	})
	if err := s.mqtt.AddHook(&hook{server: s}, nil); err != nil {
		return nil, fmt.Errorf("MQTT: %w", err)
	}
	if err := s.mqtt.Serve(); err != nil {
		return nil, fmt.Errorf("MQTT: %w", err)
	}
	s.background.Go(s.recheckKeys)
	s.background.Go(s.saveCursors)
	s.background.Go(s.tidy)
	return s, nil
}

// Suspend ends all connections and takes no new ones until it is called with false: the clients are to go to another server. Their sessions are kept.
func (s *Server) Suspend(suspended bool) { s.doorkeeper.shut(suspended) }

// Addr is the address for MQTT over plain TCP, "" if there is none.
func (s *Server) Addr() string { return s.addr("tcp") }

// TLSAddr is the address for MQTT over TLS, "" if there is none.
func (s *Server) TLSAddr() string { return s.addr("tls") }

// WebSocketAddr is the address for MQTT over WebSocket, with or without TLS, "" if there is none.
func (s *Server) WebSocketAddr(tls bool) string {
	if tls {
		return s.addr("wss")
	}
	return s.addr("ws")
}

// KeyChanged is to be called after an API key was changed or deleted. Who logged in with it and has lost a right by that is disconnected at once. Sessions
// that may not read any more are dropped.
func (s *Server) KeyChanged(keyID string) {
	s.revoke()
	for _, session := range s.sessionsWhere(func(k sessionKey, _ *session) bool { return k.keyID == keyID }) {
		s.recheck(session)
	}
	s.inBackground(func(ctx context.Context) {
		s.tidyStored(ctx, func(d *sessionDocument) bool { return d.KeyID == keyID })
	})
}

// inBackground does something with the store, unless the server ends.
func (s *Server) inBackground(do func(ctx context.Context)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.background.Go(func() { do(s.ctx) })
	}
}

// SessionChanged is to be called after the document of a session was written or deleted by another server that shares the store. If the session lives
// on there, its connection here ends.
func (s *Server) SessionChanged(id string) {
	s.mu.Lock()
	session := s.byID[id]
	s.mu.Unlock()
	if session == nil || !session.stored.durable.Load() {
		return
	}
	s.inBackground(func(ctx context.Context) {
		doc, _, exists, err := s.find(ctx, session.key)
		if err != nil || exists && doc.Generation <= session.stored.generation.Load() {
			return
		}
		s.metrics.ended.WithLabelValues("taken_over").Inc()
		s.drop(session, reasonTakenOver)
	})
}

// recheckKeys notices keys that have expired, of which no one is told.
func (s *Server) recheckKeys() {
	tick := time.NewTicker(time.Minute)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-s.ctx.Done():
			return
		}
		for _, session := range s.sessionsWhere(func(sessionKey, *session) bool { return true }) {
			s.recheck(session)
		}
	}
}

// recheck asks for the rights of a session. If it may not read any more, it is dropped; if it may send no downlinks any more, its connection ends. While no
// answer can be had, both stay; recheckKeys asks again.
func (s *Server) recheck(session *session) {
	asked := credentials{username: session.key.username, clientID: session.key.clientID, apiKey: session.apiKey}
	_, read, write, err := s.rights(s.ctx, asked)
	if messages.CodeOf(err) == messages.CodeUnavailable {
		return
	}
	c := session.connection()
	switch {
	case err != nil, !read && (c == nil || c.canRead.Load()):
		s.metrics.ended.WithLabelValues("rights_lost").Inc()
		s.drop(session, reasonNotAuthorized)
		return
	case c != nil && c.canWrite.Load() && !write: // what it may still read waits for it
		s.metrics.ended.WithLabelValues("rights_lost").Inc()
		c.canWrite.Store(false)
		c.leave(reasonNotAuthorized)
	}
	if c != nil {
		c.canRead.Store(read)
		c.canWrite.Store(write)
	}
}

// ApplicationDeleted disconnects the clients of an application and drops its sessions.
func (s *Server) ApplicationDeleted(app string) {
	s.revoke()
	v, ok := s.apps.LoadAndDelete(app)
	if !ok {
		return
	}
	for _, session := range s.sessionsWhere(func(_ sessionKey, session *session) bool { return session.app == v.(*application) }) {
		s.metrics.ended.WithLabelValues("application_deleted").Inc()
		s.drop(session, reasonNotAuthorized)
	}
}

// revoke makes logins that are going on ask again: each of them is either seen by what follows, or sees this.
func (s *Server) revoke() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.revocations.Add(1)
}

func (s *Server) sessionsWhere(is func(sessionKey, *session) bool) (out []*session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for k, session := range s.sessions {
		if is(k, session) {
			out = append(out, session)
		}
	}
	return out
}

func (s *Server) lagging() int {
	return len(s.sessionsWhere(func(_ sessionKey, session *session) bool {
		session.mu.Lock()
		defer session.mu.Unlock()
		return session.reading
	}))
}

func (s *Server) sessionCount() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.sessions)
}

// Close stops listening, tells the clients and waits for what they had begun, until ctx ends. Their sessions wait for them in the store. No last will
// is carried out.
func (s *Server) Close(ctx context.Context) error {
	s.mu.Lock()
	already := s.closed
	s.closed = true
	s.mu.Unlock()
	if already {
		return nil
	}
	s.closeDoors()
	for _, session := range s.sessionsWhere(func(sessionKey, *session) bool { return true }) {
		if c := session.connection(); c != nil {
			c.leave(reasonShuttingDown)
		}
	}
	s.doorkeeper.closeAll()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.running.Wait()
		_ = s.mqtt.Close()
	}()
	defer s.background.Wait()
	defer s.cancel()
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
		s.cancel() // commands in progress end now
		<-ended
		return errors.New("not every MQTT client had its answers in time; they will make their requests again")
	}
}

// shown shortens text of a client for the log.
func shown(text string) string {
	if len(text) > 64 {
		return text[:64] + "..."
	}
	return text
}
