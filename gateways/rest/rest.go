// Package rest is the HTTP door: the REST API of The Things Stack v3 under /api/v3, and beside it /healthz, /readyz and /metrics,
// which need no key and tell nothing about applications.
//
// Every route stands in one table (routes.go) with the rights it needs; one function checks them. What a device is made of is one
// record here: the IS, NS, AS and JS paths are views of it, and a device may be created whole with one call on the IS path.
package rest

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/net/netutil"

	"lorikeet/gateways"
	"lorikeet/messages"
	v3 "lorikeet/messages/v3"
)

const (
	readHeaderTimeout = 5 * time.Second
	readTimeout       = 30 * time.Second // of a whole request
	writeTimeout      = 2 * time.Minute  // of an answer, from its first byte
	idleTimeout       = 2 * time.Minute
	maxHeaderBytes    = 16 << 10
	maxConnections    = 8192 // at one time; more wait: the file handles of the process are for the store and radio gateways too
)

// Config of a Server. Registry, Devices and Formatters are required; the rest may be left out.
type Config struct {
	Listen         string // host:port; port 0 takes any free one
	ListenTLS      string // the same for HTTPS; "" for none
	TLS            gateways.TLSFiles
	PublicURL      string // how clients reach this server, without path
	MQTTAddress    string // public host:port of the MQTT broker; "" if there is none
	MQTTTLSAddress string // that for MQTT over TLS; "" if there is none
	Version        string

	Registry   Registry
	Devices    Devices
	Formatters Formatters
	History    History // nil: the storage paths are refused
	Fleet      Fleet   // nil: import and export are refused

	// DeviceRepository has the brands, models and codecs of devices; nil if there is none.
	DeviceRepository DeviceRepository

	// CheckWebhook and CheckPubSub say what is wrong with an integration before it is stored.
	CheckWebhook func(v3.Webhook) error
	CheckPubSub  func(v3.PubSub) error
	// IntegrationHealth gives the health_status of an integration, kind "webhook" or "pubsub"; nil if it is not known.
	IntegrationHealth func(kind, applicationID, id string) json.RawMessage
	// DownlinksFromProto makes {"downlinks":[…]} of a protobuf body; nil: webhooks take JSON only.
	DownlinksFromProto func(body []byte) ([]byte, error)
	// Templates describe targets of webhooks; nil: there are none.
	Templates WebhookTemplates
	// Deliveries knows what became of the events that integrations deliver.
	Deliveries Deliveries
	// GatewayStats gives the connection of a radio gateway; false if it is not connected.
	GatewayStats func(messages.EUI64) (v3.GatewayConnectionStats, bool)
	// DeleteApplicationData forgets what lives outside the registry beside sessions: events and cursors. It is called before the application
	// leaves the registry and once more after that, and must allow repeats.
	DeleteApplicationData func(ctx context.Context, applicationID string) error
	// Cluster describes the nodes of the cluster; a single node describes itself.
	Cluster func(context.Context) messages.ClusterStatus
	Input   v3.Input // how wrong input is taken
	NetID   [3]byte  // of the network
	// EventLog is what the event stream reads, Watch tells it of changes: it calls fn, which does not block, after each write of the registry until cancel
	// is called. WatchDeliveries tells in the same way of integrations that start, stop and fail, and WatchLogins of MQTT clients of this node that could
	// not log in. Origin names this node in events.
	EventLog        EventLog
	Watch           func(fn func(messages.Change)) (cancel func())
	WatchDeliveries func(fn func(messages.DeliveryNotice)) (cancel func())
	WatchLogins     func(fn func(application string, reason error)) (cancel func())
	Origin          string
	// DevAddrs gives the addresses of a device's sessions, from memory.
	DevAddrs func(messages.DeviceID) []messages.DevAddr
	// IssueDevEUI gives an EUI that was not given before; nil: a random locally administered one.
	IssueDevEUI func(context.Context) (messages.EUI64, error)
	// Ready says why the server can't take work now.
	Ready   func() error
	Metrics http.Handler // of /metrics

	Log        *slog.Logger
	Registerer prometheus.Registerer
}

// Server is a running door.
type Server struct {
	cfg      Config
	log      *slog.Logger
	metrics  *metrics
	attempts *attempts
	locks    locks

	openAPI    openAPI
	streams    atomic.Int64
	heartbeat  time.Duration // of event streams
	closing    context.Context
	endStreams context.CancelFunc

	echo      *echo.Echo
	http      *http.Server
	listeners []net.Listener // the plain one, and that for TLS if there is one
	served    sync.WaitGroup
	once      sync.Once
	closeErr  error
}

// Open listens and serves at once.
func Open(cfg Config) (*Server, error) {
	s, err := newServer(cfg)
	if err != nil {
		return nil, err
	}
	if err := s.listen(cfg); err != nil {
		return nil, err
	}
	s.http = &http.Server{
		Handler: s.echo, ReadHeaderTimeout: readHeaderTimeout, ReadTimeout: readTimeout, WriteTimeout: writeTimeout, IdleTimeout: idleTimeout,
		MaxHeaderBytes: maxHeaderBytes, ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	for i, listener := range s.listeners {
		s.log.LogAttrs(context.Background(), slog.LevelInfo, "REST is listening", slog.String("address", listener.Addr().String()), slog.Bool("tls", i > 0))
		s.served.Go(func() {
			if err := s.http.Serve(listener); err != nil && !errors.Is(err, http.ErrServerClosed) {
				s.log.LogAttrs(context.Background(), slog.LevelError, "REST stopped serving", slog.Any("err", err))
			}
		})
	}
	return s, nil
}

// listen opens the sockets, or none.
func (s *Server) listen(cfg Config) (err error) {
	defer func() {
		if err != nil {
			for _, l := range s.listeners {
				_ = l.Close()
			}
		}
	}()
	plain, err := net.Listen("tcp", cfg.Listen)
	if err != nil {
		return fmt.Errorf("listen for REST on %q: %w", cfg.Listen, err)
	}
	s.listeners = append(s.listeners, netutil.LimitListener(plain, maxConnections))
	if cfg.ListenTLS == "" {
		return nil
	}
	certificates, err := gateways.OpenCertificates("HTTPS", cfg.TLS, s.log, "h2", "http/1.1")
	if err != nil {
		return err
	}
	secure, err := net.Listen("tcp", cfg.ListenTLS)
	if err != nil {
		return fmt.Errorf("listen for REST over TLS on %q: %w", cfg.ListenTLS, err)
	}
	s.listeners = append(s.listeners, tls.NewListener(netutil.LimitListener(secure, maxConnections), certificates.Config()))
	return nil
}

func newServer(cfg Config) (*Server, error) {
	if cfg.Registry == nil || cfg.Devices == nil || cfg.Formatters == nil {
		return nil, errors.New("REST: Registry, Devices and Formatters are required")
	}
	setDefaults(&cfg)
	s := &Server{
		cfg: cfg, log: cfg.Log.With("component", "rest"), metrics: newMetrics(cfg.Registerer), attempts: newAttempts(time.Now),
		locks: locks{seed: maphash.MakeSeed()}, heartbeat: eventHeartbeat,
	}
	s.closing, s.endStreams = context.WithCancel(context.Background())
	s.echo = echo.New()
	s.echo.IPExtractor = echo.ExtractIPDirect() // headers that name another address can be made up
	s.echo.HTTPErrorHandler = func(err error, c echo.Context) { s.fail(c, err) }
	s.echo.Use(s.observe)
	return s, s.serve(routes())
}

// serve is the only way into the router: a route that does not say who may call it is none.
func (s *Server) serve(all []route) error {
	for _, r := range all {
		if r.access == nil || r.handler == nil {
			return fmt.Errorf("REST: route %s %s has no access rule or no handler", r.method, r.path)
		}
		s.echo.Add(r.method, r.path, s.guard(r))
	}
	return nil
}

func setDefaults(cfg *Config) {
	if cfg.CheckWebhook == nil {
		cfg.CheckWebhook = func(v3.Webhook) error { return nil }
	}
	if cfg.CheckPubSub == nil {
		cfg.CheckPubSub = func(v3.PubSub) error { return nil }
	}
	if cfg.Cluster == nil {
		cfg.Cluster = func(context.Context) messages.ClusterStatus { return messages.ClusterStatus{} }
	}
	if cfg.IntegrationHealth == nil {
		cfg.IntegrationHealth = func(string, string, string) json.RawMessage { return nil }
	}
	if cfg.Templates == nil {
		cfg.Templates = noTemplates{}
	}
	if cfg.Deliveries == nil {
		cfg.Deliveries = noDeliveries{}
	}
	if cfg.GatewayStats == nil {
		cfg.GatewayStats = func(messages.EUI64) (v3.GatewayConnectionStats, bool) { return v3.GatewayConnectionStats{}, false }
	}
	if cfg.DeleteApplicationData == nil {
		cfg.DeleteApplicationData = func(context.Context, string) error { return nil }
	}
	if cfg.EventLog == nil {
		cfg.EventLog = emptyLog{}
	}
	if cfg.Watch == nil {
		cfg.Watch = func(func(messages.Change)) func() { return func() {} }
	}
	if cfg.WatchLogins == nil {
		cfg.WatchLogins = func(func(string, error)) func() { return func() {} }
	}
	if cfg.WatchDeliveries == nil {
		cfg.WatchDeliveries = func(func(messages.DeliveryNotice)) func() { return func() {} }
	}
	if cfg.DevAddrs == nil {
		cfg.DevAddrs = func(messages.DeviceID) []messages.DevAddr { return nil }
	}
	if cfg.IssueDevEUI == nil {
		cfg.IssueDevEUI = func(context.Context) (messages.EUI64, error) { return localEUI(), nil }
	}
	if cfg.Ready == nil {
		cfg.Ready = func() error { return nil }
	}
	if cfg.Metrics == nil {
		cfg.Metrics = http.NotFoundHandler()
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	cfg.PublicURL = strings.TrimRight(cfg.PublicURL, "/")
}

// Addr is the address that is listened on, host:port.
func (s *Server) Addr() string { return s.listeners[0].Addr().String() }

// TLSAddr is that for HTTPS; "" if there is none.
func (s *Server) TLSAddr() string {
	if len(s.listeners) < 2 {
		return ""
	}
	return s.listeners[1].Addr().String()
}

// Close stops taking requests and waits for those that run, until ctx ends; then it breaks them off. It may be called again.
func (s *Server) Close(ctx context.Context) error {
	s.once.Do(func() {
		s.endStreams()
		if s.closeErr = s.http.Shutdown(ctx); s.closeErr != nil {
			_ = s.http.Close()
		}
		s.served.Wait()
	})
	return s.closeErr
}
