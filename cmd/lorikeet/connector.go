package main

import (
	"context"
	"log/slog"
	"strings"
	"sync"

	"lorikeet/actors"
	"lorikeet/gateways"
	"lorikeet/gateways/mqttclient"
	"lorikeet/gateways/natsclient"
	"lorikeet/gateways/webhook"
	"lorikeet/messages"
	v3 "lorikeet/messages/v3"
	"lorikeet/persistence/registry"
)

// connector keeps the running integrations equal to what the registry says.
type connector struct {
	registry     *registry.Registry
	integrations *actors.Integrations
	sender       *webhook.Sender
	downlinks    gateways.Downlinks
	metrics      *gateways.DownlinkMetrics
	log          *slog.Logger

	mu      sync.Mutex
	pending []messages.Change
	wake    chan struct{}
	cancel  context.CancelFunc
	done    chan struct{}
}

// integrationKey names an integration and its cursor; it starts with the application, so that the store can find the cursors of one.
func integrationKey(kind, applicationID, id string) string {
	return applicationID + "/" + kind + "/" + id
}

func (c *connector) start(ctx context.Context) error {
	hooks, err := c.registry.AllWebhooks(ctx)
	if err != nil {
		return err
	}
	for _, h := range hooks {
		c.setWebhook(h)
	}
	pubsubs, err := c.registry.AllPubSubs(ctx)
	if err != nil {
		return err
	}
	for _, p := range pubsubs {
		c.setPubSub(p)
	}
	c.wake, c.done = make(chan struct{}, 1), make(chan struct{})
	ctx, c.cancel = context.WithCancel(context.WithoutCancel(ctx))
	go c.follow(ctx)
	return nil
}

// changed notes a change of the registry; it does not block.
func (c *connector) changed(change messages.Change) {
	if change.Kind != messages.KindWebhook && change.Kind != messages.KindPubSub {
		return
	}
	c.mu.Lock()
	c.pending = append(c.pending, change)
	c.mu.Unlock()
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

func (c *connector) follow(ctx context.Context) {
	defer close(c.done)
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.wake:
		}
		c.mu.Lock()
		pending := c.pending
		c.pending = nil
		c.mu.Unlock()
		for _, change := range pending {
			c.apply(ctx, change)
		}
	}
}

func (c *connector) apply(ctx context.Context, change messages.Change) {
	app, id, ok := strings.Cut(change.ID, ".")
	if !ok {
		return
	}
	kind := "webhook"
	if change.Kind == messages.KindPubSub {
		kind = "pubsub"
	}
	if change.Deleted {
		c.integrations.Remove(integrationKey(kind, app, id))
		return
	}
	var err error
	if change.Kind == messages.KindWebhook {
		var h v3.Webhook
		if h, err = c.registry.Webhook(ctx, app, id); err == nil {
			c.setWebhook(h)
		}
	} else {
		var p v3.PubSub
		if p, err = c.registry.PubSub(ctx, app, id); err == nil {
			c.setPubSub(p)
		}
	}
	if err != nil && messages.CodeOf(err) != messages.CodeNotFound {
		c.log.Error("integration is not started; write it again", "integration", kind, "application_id", app, "id", id, "err", err)
	}
}

func (c *connector) setWebhook(h v3.Webhook) {
	app := h.IDs.ApplicationIDs.ApplicationID
	cfg := actors.IntegrationConfig{Application: app, Kind: "webhook", ID: h.IDs.WebhookID, Paused: h.Paused}
	if h.CreatedAt != nil {
		cfg.Created = *h.CreatedAt
	}
	c.integrations.Set(integrationKey("webhook", app, h.IDs.WebhookID), cfg, func() (actors.Integration, error) { return c.sender.New(h) })
}

func (c *connector) setPubSub(p v3.PubSub) {
	app := p.IDs.ApplicationIDs.ApplicationID
	cfg := actors.IntegrationConfig{Application: app, Kind: "nats", ID: p.IDs.PubSubID, Concurrency: 256}
	if p.CreatedAt != nil {
		cfg.Created = *p.CreatedAt
	}
	open := func() (actors.Integration, error) {
		return natsclient.Open(natsclient.Config{PubSub: p, Downlinks: c.downlinks, Metrics: c.metrics, Logger: c.log})
	}
	if p.MQTT != nil {
		cfg.Kind = "mqtt"
		open = func() (actors.Integration, error) {
			return mqttclient.Open(mqttclient.Config{PubSub: p, Downlinks: c.downlinks, Metrics: c.metrics, Logger: c.log})
		}
	}
	c.integrations.Set(integrationKey("pubsub", app, p.IDs.PubSubID), cfg, open)
}

func (c *connector) stop() {
	if c.cancel != nil {
		c.cancel()
		<-c.done
	}
	c.sender.Close()
}
