package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/oklog/ulid/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"lorikeet/actors"
	"lorikeet/actors/radiogateway"
	"lorikeet/cluster"
	"lorikeet/formatters"
	"lorikeet/formatters/repository"
	"lorikeet/gateways"
	"lorikeet/gateways/broker"
	"lorikeet/gateways/radio/semtechudp"
	"lorikeet/gateways/rest"
	"lorikeet/gateways/webhook"
	"lorikeet/messages"
	"lorikeet/messages/v3/pb"
	"lorikeet/persistence/registry"
)

// server is one running node. Its parts are started in the order of the fields and stopped in the order that Close says.
type server struct {
	cfg     Config
	log     *slog.Logger
	metrics *prometheus.Registry

	clustered    *clustered // nil: a single node
	store        store
	registry     *registry.Registry
	codecs       *repository.Repository // nil: there is none
	scripts      *formatters.Set
	system       *actor.ActorSystem
	directory    *cluster.Directory
	router       router
	devices      *actors.Devices
	ingress      *actors.Ingress
	transmitter  *actors.Transmitter
	integrations *actors.Integrations
	connector    *connector
	notices      notices
	broker       *broker.Server
	logins       watchers[failedLogin]
	stopCleaning func()
	retentions   *retentions
	udp          *semtechudp.Server
	rest         *rest.Server

	startedAt  time.Time
	failed     chan error // a part that can't go on
	out        io.Writer  // where a person reads
	createdKey string     // admin key made at this start
	unwatch    func()
}

// router runs the device actors of this node and reaches those of the others.
type router interface {
	actors.Router
	Alive() int
	Stop(ctx context.Context) error
}

// random is what the pure parts must not make themselves.
type random struct{}

func (random) ULID(now time.Time) string {
	id, err := ulid.New(ulid.Timestamp(now), ulid.DefaultEntropy())
	if err != nil {
		id = ulid.MustNew(ulid.Timestamp(now), rand.Reader)
	}
	return id.String()
}

func (random) Bytes(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails since Go 1.24
	return b
}

// startServer opens the store and starts every part. What was started is closed again if a later part fails. If this start makes the admin key, it is
// written to out.
func startServer(ctx context.Context, cfg Config, log *slog.Logger, out io.Writer) (_ *server, err error) {
	s := &server{cfg: cfg, log: log, out: out, metrics: prometheus.NewRegistry(), startedAt: time.Now().UTC(), failed: make(chan error, 8)}
	s.metrics.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	defer func() {
		if err != nil {
			closing, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			defer cancel()
			_ = s.Close(closing)
		}
	}()
	for _, start := range []func(context.Context) error{s.openStore, s.startDevices, s.startIntegrations, s.startDoors} {
		if err := start(ctx); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func (s *server) startDevices(ctx context.Context) error {
	netID, err := parseNetID(s.cfg.NetID)
	if err != nil {
		return err
	}
	if s.codecs, err = openRepository(s.cfg.Scripts, s.log); err != nil {
		return err
	}
	s.scripts, err = formatters.Open(formatters.Config{
		Workers: s.cfg.Scripts.Workers, Timeout: s.cfg.Scripts.Timeout, Repository: s.codecs, Log: s.log.With("component", "formatters"), Registerer: s.metrics,
	})
	if err != nil {
		return err
	}
	metrics := actors.NewMetrics(s.metrics)
	transmitter := actors.TransmitterConfig{Send: s.send, Clock: time.Now, Log: s.log.With("component", "transmitter"), Registerer: s.metrics}
	if s.cfg.Radio.DutyCycle {
		transmitter.SubBands = radiogateway.EU868()
	}
	s.transmitter = actors.NewTransmitter(transmitter)
	cfg := &actors.DeviceConfig{
		Store: s.store, Registry: s.registry, Formatters: s.scripts, Transmitter: s.transmitter, Random: random{},
		Router: func() actors.Router { return s.router }, Regions: actors.NewRegions(), NetID: netID, Network: s.cfg.networkIDs(), Activations: s.registry,
		DeduplicationWindow: s.cfg.Radio.DeduplicationWindow, CommitTimeout: 10 * time.Second, Clock: time.Now, Log: s.log, Metrics: metrics,
	}
	quiet := demoted{s.log.With("component", "actors").Handler()}
	s.system = actor.NewActorSystem(actor.WithLoggerFactory(func(*actor.ActorSystem) *slog.Logger { return slog.New(quiet) }))
	ingress := actors.IngressConfig{Registry: s.registry, Metrics: metrics, MaxInFlight: s.cfg.Radio.MaxInFlight, Clock: time.Now, Log: s.log.With("component", "ingress")}
	if s.clustered != nil {
		ingress.Node, ingress.LookAgain = s.clustered.name, 50*time.Millisecond
		// A frame waits while the store elects a leader or is away for a moment; the device's next one waits behind it.
		cfg.CommitTimeout = s.cfg.Cluster.SuspendLimit
		err = s.joinCluster(ctx, cfg)
	} else {
		err = s.startAlone(ctx, cfg)
	}
	if err != nil {
		return err
	}
	s.log.Info("directory is built", "devices", s.directory.Len())
	s.devices = actors.NewDevices(cfg, s.router)
	ingress.Directory, ingress.Router = s.directory, s.router
	s.ingress = actors.NewIngress(ingress)
	s.metrics.MustRegister(
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "lorikeet_devices_awake", Help: "Device actors in memory."}, func() float64 { return float64(s.router.Alive()) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "lorikeet_devices_with_session", Help: "Devices in the directory."}, func() float64 { return float64(s.directory.Len()) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "lorikeet_frames_in_flight", Help: "Frames handed to device actors and not settled."}, func() float64 { return float64(s.ingress.InFlight()) }),
	)
	return nil
}

// startAlone runs all devices on this node.
func (s *server) startAlone(ctx context.Context, cfg *actors.DeviceConfig) error {
	s.directory = cluster.NewDirectory()
	cfg.Index = s.directory
	if err := actors.LoadIndex(ctx, cfg); err != nil {
		return fmt.Errorf("directory: %w", err)
	}
	s.router = cluster.StartLocal(cluster.LocalConfig{System: s.system, IdleAfter: s.cfg.Radio.PassivateAfter, Clock: time.Now},
		func(id messages.DeviceID) actor.Actor { return actors.NewDevice(cfg, id) })
	return nil
}

// send reaches a radio gateway through whichever door it is connected to.
func (s *server) send(ctx context.Context, req messages.TxRequest) messages.TxError {
	if s.udp == nil {
		return messages.TxNoPath
	}
	return s.udp.Send(ctx, req)
}

func (s *server) startIntegrations(ctx context.Context) error {
	guard, err := s.cfg.Webhooks.guard()
	if err != nil {
		return err
	}
	sender, err := webhook.NewSender(webhook.Config{Version: buildVersion(), PublicURL: s.publicURL(), Guard: guard, Encoder: pb.FromJSON})
	if err != nil {
		return err
	}
	cfg := actors.IntegrationsConfig{Logger: s.log.With("component", "integrations"), Metrics: s.metrics, Documents: s.store, Notify: s.notices.publish}
	if s.clustered != nil {
		s.notices.tellNodes = func(body []byte) { s.clustered.node.TellNodes(kindNotice, body) }
		cfg.ReplicaPatience = 30 * time.Second
	}
	s.integrations = actors.NewIntegrations(s.system.Root, s.store, cfg)
	input, err := s.cfg.API.input()
	if err != nil {
		return err
	}
	s.connector = &connector{
		placement: s.placement(), registry: s.registry, integrations: s.integrations, sender: sender, downlinks: s.devices, input: input, guard: guard, notify: s.notices.publish,
		metrics: gateways.NewDownlinkMetrics(s.metrics), log: s.log.With("component", "integrations"),
	}
	return s.connector.start(ctx)
}

func (s *server) publicURL() string {
	if s.cfg.HTTP.PublicURL != "" {
		return s.cfg.HTTP.PublicURL
	}
	scheme, listen, preset := "http://", s.cfg.HTTP.Listen, "1885"
	if address := s.cfg.HTTP.tlsListen(); address != "" {
		scheme, listen, preset = "https://", address, "8885"
	}
	_, port, err := net.SplitHostPort(listen)
	if err != nil || port == "0" {
		port = preset
	}
	return scheme + "localhost:" + port
}

// Close stops the parts: doors that take in first, then what works on it, then what carries it on, the store last. Commits that were begun end,
// and integrations save their place.
func (s *server) Close(ctx context.Context) error {
	var errs []error
	note := func(what string, err error) {
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", what, err))
		}
	}
	if s.unwatch != nil {
		s.unwatch()
	}
	if s.udp != nil {
		note("radio gateways", s.udp.Close())
	}
	if s.rest != nil {
		note("REST", s.rest.Close(ctx))
	}
	if s.stopCleaning != nil {
		s.stopCleaning()
	}
	if s.retentions != nil {
		s.retentions.stop()
	}
	if s.clustered != nil {
		note("cluster", s.clustered.leave(ctx))
	}
	if s.router != nil {
		s.drain(ctx)
		note("devices", s.router.Stop(ctx))
	}
	if s.broker != nil {
		note("MQTT", s.broker.Close(ctx))
	}
	if s.integrations != nil {
		note("integrations", s.integrations.Stop(ctx))
	}
	if s.connector != nil {
		s.connector.stop()
	}
	if s.clustered != nil {
		s.clustered.stop()
	}
	if s.transmitter != nil {
		s.transmitter.Close()
	}
	if s.system != nil {
		s.system.Shutdown()
	}
	if s.scripts != nil {
		note("formatters", s.scripts.Close())
	}
	if s.registry != nil {
		s.registry.Close()
	}
	if s.store != nil {
		note("store", s.store.Close())
	}
	if s.clustered != nil {
		s.clustered.disconnect()
	}
	return errors.Join(errs...)
}

// drain waits until the frames that were taken in are decided.
func (s *server) drain(ctx context.Context) {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(3 * time.Second)
	for s.ingress.InFlight() > 0 {
		select {
		case <-tick.C:
		case <-limit:
			return
		case <-ctx.Done():
			return
		}
	}
}

// newLogger writes to w as the configuration says.
func newLogger(cfg LogConfig, w io.Writer) *slog.Logger {
	var level slog.Level
	_ = level.UnmarshalText([]byte(cfg.Level)) // checked by Validate
	opts := &slog.HandlerOptions{Level: level}
	if cfg.Format == "json" {
		return slog.New(slog.NewJSONHandler(w, opts))
	}
	return slog.New(slog.NewTextHandler(w, opts))
}

// demoted lowers what the actor system says of itself by one level: its notices are of no use to an operator.
type demoted struct{ slog.Handler }

func (d demoted) Enabled(ctx context.Context, l slog.Level) bool { return d.Handler.Enabled(ctx, l-4) }
func (d demoted) Handle(ctx context.Context, r slog.Record) error {
	r.Level -= 4
	return d.Handler.Handle(ctx, r)
}
func (d demoted) WithAttrs(a []slog.Attr) slog.Handler { return demoted{d.Handler.WithAttrs(a)} }
func (d demoted) WithGroup(name string) slog.Handler   { return demoted{d.Handler.WithGroup(name)} }
