// Package semtechudp is the door for radio gateways that run a Semtech UDP packet forwarder (protocol versions 1 and 2).
//
// One goroutine reads, acknowledges and keeps the state of the connections; it never waits for anything. Workers parse the
// JSON and hand frames on, in order for each radio gateway. What the workers can't keep up with is dropped and counted: the newest first.
//
// The protocol has no authentication. Whoever knows an EUI can send frames in its name; the MIC of each frame is what decides.
// Downlinks go to the source of the latest PULL_DATA, which can't move to another IP address while the present one is alive.
// What comes from other addresses is taken, within a rate of its own, but never says what time the concentrator has.
package semtechudp

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"

	"lorikeet/messages"
)

// Sink takes what radio gateways send. It must not block: a sink that waits fills the queue of its worker, and what comes after is dropped.
type Sink interface {
	HandleFrame(messages.Frame)
	HandleStatus(messages.GatewayStatus)
}

// Registry knows the radio gateways.
type Registry interface {
	// RadioGateway is called for each datagram, so it answers from memory. ok is false if eui is not registered.
	RadioGateway(eui messages.EUI64) (id string, location *messages.Location, ok bool)
	// Register makes eui known. It is called outside of the read loop, at most once a minute for one EUI, and may take its time.
	Register(ctx context.Context, eui messages.EUI64) error
}

// Config says how to run a Server. Sink and Registry are needed; the zero value of the rest is the default.
type Config struct {
	Listen   string // UDP address, default ":1700"
	Sink     Sink
	Registry Registry
	// AutoRegister lets radio gateways in that the registry does not know, and has them registered; their frames go through meanwhile
	// with the id "eui-<EUI in lower case>". Without it their datagrams are dropped and not acknowledged.
	AutoRegister bool

	// Pulled is told of each PULL_DATA that was accepted: the downlinks of this radio gateway can be sent here. It must not block. Default: none.
	Pulled func(eui messages.EUI64)
	// Suspended says that what comes in can't be worked on now. It is taken all the same, but not acknowledged, so that a radio gateway which has
	// another server to go to does so. It must not block. Default: never.
	Suspended func() bool

	Log        *slog.Logger          // default: none
	Registerer prometheus.Registerer // default: none
	Clock      func() time.Time      // default time.Now
	Random     io.Reader             // default crypto/rand.Reader

	Workers     int // default 2
	MaxInFlight int // datagrams read but not yet handed on, default 8192
	ReadBuffer  int // bytes of SO_RCVBUF, default 8 MiB

	// PathExpiry is how long after the last PULL_DATA downlinks are still tried, default 10 minutes: the TX_ACK decides.
	PathExpiry time.Duration
	// AddressChangeBlock is how long a radio gateway must be silent before its PULL_DATA may come from another IP address. Default 60 s; negative: 0.
	AddressChangeBlock time.Duration
	// TxAckTimeout bounds the wait for TX_ACK if the context of Send does not, default 5 s.
	TxAckTimeout time.Duration

	// MaxRate is how many datagrams per second one radio gateway may send from the IP address of its PULL_DATA, and as many again from all others. Each
	// full KiB of a datagram counts as one more, since the work is in what it holds;
	// default 5000, bursts of twice as many.
	MaxRate      float64
	UnknownRate  float64 // radio gateways per second that one IP address may bring to AutoRegister, default 5
	UnknownBurst int     // default 250
}

func (c *Config) setDefaults() {
	setDefault(&c.Listen, ":1700")
	setDefault(&c.Log, slog.New(slog.DiscardHandler))
	if c.Clock == nil {
		c.Clock = time.Now
	}
	if c.Random == nil {
		c.Random = rand.Reader
	}
	if c.Pulled == nil {
		c.Pulled = func(messages.EUI64) {}
	}
	if c.Suspended == nil {
		c.Suspended = func() bool { return false }
	}
	setDefault(&c.Workers, 2)
	setDefault(&c.MaxInFlight, 8192)
	setDefault(&c.ReadBuffer, 8<<20)
	setDefault(&c.PathExpiry, 10*time.Minute)
	setDefault(&c.AddressChangeBlock, time.Minute)
	setDefault(&c.TxAckTimeout, 5*time.Second)
	setDefault(&c.MaxRate, 5000)
	setDefault(&c.UnknownRate, 5)
	setDefault(&c.UnknownBurst, 250)
}

func setDefault[T comparable](p *T, v T) {
	var zero T
	if *p == zero {
		*p = v
	}
}

// Server is the door. Make it with New; its methods may be called from any goroutine.
type Server struct {
	cfg     Config
	metrics *metrics
	table   table

	queues        []chan job
	inFlight      atomic.Int64
	inFlightBytes atomic.Int64
	registrations chan *radioGateway
	random        sync.Mutex // Config.Random need not be safe

	mu      sync.Mutex
	conn    *net.UDPConn
	stopped <-chan struct{} // of the context of Start
	cancel  context.CancelFunc
	wg      sync.WaitGroup
}

// New checks cfg and registers the metrics.
func New(cfg Config) (*Server, error) {
	if cfg.Sink == nil || cfg.Registry == nil {
		return nil, errors.New("semtechudp: Config needs a Sink and a Registry")
	}
	cfg.setDefaults()
	if cfg.Workers < 1 || cfg.MaxInFlight < cfg.Workers {
		return nil, fmt.Errorf("semtechudp: %d workers and %d in flight: want at least 1 worker and 1 in flight for each", cfg.Workers, cfg.MaxInFlight)
	}
	s := &Server{
		cfg:           cfg,
		table:         table{gateways: make(map[messages.EUI64]*radioGateway), sources: make(map[netip.Addr]*rate.Limiter)},
		queues:        make([]chan job, cfg.Workers),
		registrations: make(chan *radioGateway, 1024),
	}
	for i := range s.queues {
		s.queues[i] = make(chan job, cfg.MaxInFlight/cfg.Workers)
	}
	var err error
	s.metrics, err = newMetrics(cfg.Registerer, s)
	return s, err
}

// Start listens, and serves until ctx ends or Close is called.
func (s *Server) Start(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn != nil {
		return errors.New("semtechudp: started already")
	}
	addr, err := net.ResolveUDPAddr("udp", s.cfg.Listen)
	if err != nil {
		return fmt.Errorf("semtechudp: listen address %q: %w; want host:port, as :1700", s.cfg.Listen, err)
	}
	conn, err := net.ListenUDP("udp", addr)
	if err != nil {
		return fmt.Errorf("semtechudp: %w", err)
	}
	if err := conn.SetReadBuffer(s.cfg.ReadBuffer); err != nil {
		s.cfg.Log.Warn("Semtech UDP receive buffer not set", "err", err)
	}
	if got := receiveBuffer(conn); got > 0 && got < s.cfg.ReadBuffer {
		s.cfg.Log.Warn("Semtech UDP receive buffer is smaller than asked for; raise net.core.rmem_max to survive bursts", "bytes", got, "wanted", s.cfg.ReadBuffer)
	}
	s.conn = conn
	ctx, s.cancel = context.WithCancel(ctx)
	s.stopped = ctx.Done()
	s.run(ctx, conn)
	s.cfg.Log.Info("Semtech UDP listening", "address", conn.LocalAddr().String())
	return nil
}

func (s *Server) run(ctx context.Context, conn *net.UDPConn) {
	for _, queue := range s.queues {
		s.wg.Go(func() { s.work(queue) })
	}
	const registrars = 4
	for range registrars {
		s.wg.Go(func() { s.register(ctx) })
	}
	s.wg.Go(func() { s.sweep(ctx) })
	s.wg.Go(func() {
		s.read(ctx, conn)
		for _, queue := range s.queues {
			close(queue)
		}
	})
	context.AfterFunc(ctx, func() { _ = conn.Close() })
}

// Addr is the address the server listens on; invalid before Start.
func (s *Server) Addr() netip.AddrPort {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn == nil {
		return netip.AddrPort{}
	}
	addr, _ := s.conn.LocalAddr().(*net.UDPAddr)
	return addr.AddrPort()
}

// Close stops reading, hands on what was acknowledged, and returns when all is done.
func (s *Server) Close() error {
	s.mu.Lock()
	if s.cancel != nil {
		s.cancel()
	}
	s.mu.Unlock()
	s.wg.Wait()
	return nil
}

// Gateways lists the radio gateways that were heard of since the start or in the last day, by EUI.
func (s *Server) Gateways() []Connection { return s.table.connections() }

// Gateway is the one of Gateways with the given EUI.
func (s *Server) Gateway(eui messages.EUI64) (Connection, bool) {
	g := s.table.get(eui)
	if g == nil {
		return Connection{}, false
	}
	return g.connection(), true
}
