package main

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"lorikeet/actors"
	"lorikeet/gateways"
	"lorikeet/gateways/broker"
	"lorikeet/gateways/mqttclient"
	"lorikeet/gateways/natsclient"
	"lorikeet/gateways/radio/semtechudp"
	"lorikeet/gateways/rest"
	"lorikeet/gateways/webhook"
	"lorikeet/messages"
	v3 "lorikeet/messages/v3"
	"lorikeet/messages/v3/pb"
	"lorikeet/persistence/registry"
)

// startDoors opens the doors for people and programs, and the one for radio gateways last: what comes in there is delivered from the first frame on.
func (s *server) startDoors(ctx context.Context) error {
	if err := s.startBroker(ctx); err != nil {
		return err
	}
	s.retentions = startRetentions(s.registry, s.store, s.log.With("component", "retention"))
	s.unwatch = s.registry.Watch(s.registryChanged)
	if err := s.retentions.readAll(ctx); err != nil {
		return err
	}
	s.startCleaning(ctx)
	if err := s.startREST(); err != nil {
		return err
	}
	if s.clustered != nil {
		if err := s.clustered.activate(ctx, s.connector); err != nil {
			return err
		}
		if s.broker != nil {
			s.clustered.watchFitness(ctx, s.broker)
		}
	}
	return s.startUDP(ctx)
}

func (s *server) startBroker(context.Context) (err error) {
	if !s.cfg.MQTT.enabled() {
		return nil
	}
	cfg := s.brokerConfig()
	if cfg.Input, err = s.cfg.API.input(); err != nil {
		return err
	}
	s.broker, err = broker.Open(cfg)
	return listenHint(err, "mqtt", "mqtt.listen, mqtt.tls_listen or mqtt.websocket")
}

// registryChanged is called after each write of the registry and must not block.
func (s *server) registryChanged(c messages.Change) {
	s.devices.RegistryChanged(c)
	s.connector.changed(c)
	s.retentions.changed(c)
	if s.broker == nil {
		return
	}
	switch {
	case c.Kind == messages.KindAPIKey:
		s.broker.KeyChanged(c.ID)
	case c.Kind == messages.KindMQTTSession:
		s.broker.SessionChanged(c.ID)
	case c.Kind == messages.KindApplication && c.Deleted:
		s.broker.ApplicationDeleted(c.ID)
	}
}

// startCleaning looks for sessions of deleted devices. In a cluster nobody does: it would read the sessions of all nodes, and what REST does first in a
// deletion is to drop the session.
func (s *server) startCleaning(ctx context.Context) {
	if s.clustered != nil {
		return
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan struct{})
	go func() {
		defer close(done)
		forgetOrphans(ctx, s.devices, s.registry, s.store, s.log.With("component", "cleaner"))
	}()
	s.stopCleaning = func() { cancel(); <-done }
}

func (s *server) startREST() (err error) {
	templates, err := webhook.LoadTemplates(s.cfg.Webhooks.Templates)
	if err != nil {
		return fmt.Errorf("webhooks.templates: %w", err)
	}
	mqtt, mqttTLS := s.publicMQTT()
	cfg, err := s.completeREST(rest.Config{
		Listen: s.cfg.HTTP.Listen, ListenTLS: s.cfg.HTTP.tlsListen(), TLS: gateways.TLSFiles{Cert: s.cfg.HTTP.TLSCert, Key: s.cfg.HTTP.TLSKey}, PublicURL: s.publicURL(), MQTTAddress: mqtt, MQTTTLSAddress: mqttTLS, Version: buildVersion(),
		Registry: s.registry, Devices: s.devices, Formatters: s.scripts, DeviceRepository: s.deviceRepository(), History: s.store, Fleet: fleet{s.registry, devices{s.devices}},
		CheckWebhook: s.connector.sender.Check, CheckPubSub: checkPubSub, IntegrationHealth: s.integrationHealth, Templates: templates, Deliveries: deliveries{s}, DownlinksFromProto: pb.DownlinksFromProto,
		GatewayStats: s.gatewayStats, DeleteApplicationData: s.deleteApplicationData,
		Cluster: s.clusterStatus, Ready: s.ready, Metrics: promhttp.HandlerFor(s.metrics, promhttp.HandlerOpts{}), Log: s.log, Registerer: s.metrics,
	})
	if err != nil {
		return err
	}
	s.rest, err = rest.Open(cfg)
	return listenHint(err, "http", "http.listen or http.tls_listen")
}

var (
	_ actors.ConnectedIntegration = (*mqttclient.Client)(nil)
	_ actors.ConnectedIntegration = (*natsclient.Client)(nil)
)

func checkPubSub(p v3.PubSub) error {
	switch {
	case p.MQTT != nil:
		return mqttclient.Check(p)
	case p.NATS != nil:
		return natsclient.Check(p)
	}
	return nil // the registry refuses an integration without a provider, and those that there are not
}

// integrationHealth is what REST shows of a running integration; nil if it does not run.
func (s *server) integrationHealth(kind, app, id string) json.RawMessage {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	key := integrationKey(kind, app, id)
	if s.clustered != nil {
		return s.askOwner(ctx, key)
	}
	return s.localHealth(ctx, key)
}

func (s *server) localHealth(ctx context.Context, key string) json.RawMessage {
	st, ok := s.integrations.Status(ctx, key)
	if !ok {
		return nil
	}
	return webhook.Health(st.Message(""))
}

func (s *server) gatewayStats(eui messages.EUI64) (v3.GatewayConnectionStats, bool) {
	if s.clustered != nil {
		if stats, ok := s.remoteGatewayStats(eui); ok {
			return stats, true
		}
	}
	return s.localGatewayStats(eui)
}

func (s *server) localGatewayStats(eui messages.EUI64) (v3.GatewayConnectionStats, bool) {
	if s.udp == nil {
		return v3.GatewayConnectionStats{}, false
	}
	c, ok := s.udp.Gateway(eui)
	if !ok {
		return v3.GatewayConnectionStats{}, false
	}
	return connectionStats(c), true
}

// radioSink hands frames to the ingress. The door itself keeps what radio gateways say of themselves.
type radioSink struct{ *actors.Ingress }

func (radioSink) HandleStatus(messages.GatewayStatus) {}

// radioRegistry lets the door register radio gateways on first sight.
type radioRegistry struct{ *registry.Registry }

func (r radioRegistry) Register(ctx context.Context, eui messages.EUI64) error {
	return r.RegisterSeenGateway(ctx, eui)
}

// pulled is told where the downlink paths of radio gateways end; a single node need not know.
func (s *server) pulled() func(messages.EUI64) {
	if s.clustered == nil {
		return nil
	}
	return s.clustered.paths.pulled
}

// suspended tells the door that radio gateways had better go to another node.
func (s *server) suspended() func() bool {
	if s.clustered == nil {
		return nil
	}
	return func() bool { return s.clustered.node.Suspended() != nil }
}

func (s *server) startUDP(ctx context.Context) error {
	if s.cfg.UDP.Listen == "" {
		return nil
	}
	udp, err := semtechudp.New(semtechudp.Config{
		Listen: s.cfg.UDP.Listen, Sink: radioSink{s.ingress}, Registry: radioRegistry{s.registry}, AutoRegister: s.cfg.UDP.AutoRegister,
		Pulled: s.pulled(), Suspended: s.suspended(), Log: s.log.With("component", "semtechudp"), Registerer: s.metrics,
	})
	if err != nil {
		return fmt.Errorf("radio gateways: %w", err)
	}
	s.udp = udp // before the first frame can ask for an answer
	if err := udp.Start(context.WithoutCancel(ctx)); err != nil {
		return listenHint(fmt.Errorf("radio gateways: %w", err), "udp", "udp.listen")
	}
	return nil
}
