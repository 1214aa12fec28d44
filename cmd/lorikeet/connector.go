package main

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"time"

	"lorikeet/actors"
	"lorikeet/gateways"
	"lorikeet/gateways/mqttclient"
	"lorikeet/gateways/natsclient"
	"lorikeet/gateways/webhook"
	"lorikeet/messages"
	v3 "lorikeet/messages/v3"
	"lorikeet/persistence/registry"
)

// placement says which integrations run on this node. On a single node all do.
type placement interface {
	owns(key string) bool
	// takeOver has the other nodes end integrations that are to run here, and returns when their places are saved, or after a moment.
	takeOver(ctx context.Context, keys []string)
}

// everythingHere is the placement of a single node.
type everythingHere struct{}

func (everythingHere) owns(string) bool                   { return true }
func (everythingHere) takeOver(context.Context, []string) {}

func (s *server) placement() placement {
	if s.clustered != nil {
		return s.clustered
	}
	return everythingHere{}
}

// connector keeps the running integrations equal to what the registry says, as far as they are placed on this node.
type connector struct {
	placement    placement
	registry     *registry.Registry
	integrations *actors.Integrations
	sender       *webhook.Sender
	downlinks    gateways.Downlinks
	input        v3.Input // how wrong downlinks of pub/sub are taken
	metrics      *gateways.DownlinkMetrics
	guard        *gateways.DialGuard
	notify       func(messages.DeliveryNotice)
	log          *slog.Logger

	mu      sync.Mutex
	pending []messages.Change
	moved   bool // the placement changed
	running map[string]bool
	wake    chan struct{}
	cancel  context.CancelFunc
	done    chan struct{}
}

// integrationKey names an integration and its cursor; it starts with the application, so that the store can find the cursors of one.
func integrationKey(kind, applicationID, id string) string {
	return applicationID + "/" + kind + "/" + id
}

func (c *connector) start(ctx context.Context) error {
	c.running = map[string]bool{}
	if err := c.place(ctx); err != nil {
		return err
	}
	c.wake, c.done = make(chan struct{}, 1), make(chan struct{})
	ctx, c.cancel = context.WithCancel(context.WithoutCancel(ctx))
	go c.follow(ctx)
	return nil
}

// place starts what is to run here and does not, and ends what runs here and is not to.
func (c *connector) place(ctx context.Context) error {
	hooks, err := c.registry.AllWebhooks(ctx)
	if err != nil {
		return err
	}
	pubsubs, err := c.registry.AllPubSubs(ctx)
	if err != nil {
		return err
	}
	set := map[string]func(){}
	for _, h := range hooks {
		set[integrationKey("webhook", h.IDs.ApplicationIDs.ApplicationID, h.IDs.WebhookID)] = func() { c.setWebhook(h) }
	}
	for _, p := range pubsubs {
		set[integrationKey("pubsub", p.IDs.ApplicationIDs.ApplicationID, p.IDs.PubSubID)] = func() { c.setPubSub(p) }
	}
	var come, leave []string
	c.mu.Lock()
	for key := range set {
		if c.placement.owns(key) && !c.running[key] {
			come = append(come, key)
		}
	}
	for key := range c.running {
		if !c.placement.owns(key) {
			leave = append(leave, key)
		}
	}
	c.mu.Unlock()
	c.release(ctx, leave)
	if len(come) > 0 {
		c.placement.takeOver(ctx, come)
	}
	for _, key := range come {
		set[key]()
	}
	return nil
}

// release ends integrations that are to run elsewhere, and returns when their places are saved.
func (c *connector) release(ctx context.Context, keys []string) {
	var all sync.WaitGroup
	for _, key := range keys {
		c.mu.Lock()
		was := c.running[key]
		delete(c.running, key)
		c.mu.Unlock()
		if was {
			all.Go(func() {
				if err := c.integrations.Release(ctx, key); err != nil {
					c.log.Warn("integration did not end in time; some events may be delivered twice", "integration", key, "err", err)
				}
			})
		}
	}
	all.Wait()
}

// count is the number of integrations that run here.
func (c *connector) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.running)
}

// replace has the placement looked at again; it does not block.
func (c *connector) replace() {
	c.mu.Lock()
	c.moved = true
	c.mu.Unlock()
	c.poke()
}

func (c *connector) poke() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// changed notes a change of the registry; it does not block.
func (c *connector) changed(change messages.Change) {
	if change.Kind != messages.KindWebhook && change.Kind != messages.KindPubSub {
		return
	}
	c.mu.Lock()
	c.pending = append(c.pending, change)
	c.mu.Unlock()
	c.poke()
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
		pending, moved := c.pending, c.moved
		c.pending, c.moved = nil, false
		c.mu.Unlock()
		for _, change := range pending {
			c.apply(ctx, change)
		}
		if moved {
			if err := c.place(ctx); err != nil && ctx.Err() == nil {
				c.log.Error("integrations are not placed anew; trying again", "err", err)
				time.AfterFunc(time.Second, c.replace)
			}
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
	key := integrationKey(kind, app, id)
	if change.Deleted {
		c.mu.Lock()
		delete(c.running, key)
		c.mu.Unlock()
		c.integrations.Remove(key)
		return
	}
	if !c.placement.owns(key) {
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
	c.set(integrationKey("webhook", app, h.IDs.WebhookID), cfg, func() (actors.Integration, error) { return c.sender.New(h) })
}

func (c *connector) setPubSub(p v3.PubSub) {
	app := p.IDs.ApplicationIDs.ApplicationID
	cfg := actors.IntegrationConfig{Application: app, Kind: "nats", ID: p.IDs.PubSubID, Concurrency: 256}
	if p.CreatedAt != nil {
		cfg.Created = *p.CreatedAt
	}
	notify := func(what, reason string) {
		c.notify(messages.DeliveryNotice{
			IntegrationRef: messages.IntegrationRef{Kind: "pubsub", ApplicationID: app, ID: p.IDs.PubSubID}, What: what, Time: time.Now(), Error: reason,
		})
	}
	open := func() (actors.Integration, error) {
		return natsclient.Open(natsclient.Config{PubSub: p, Downlinks: c.downlinks, Metrics: c.metrics, Input: c.input, Logger: c.log, Guard: c.guard, Notify: notify})
	}
	if p.MQTT != nil {
		cfg.Kind = "mqtt"
		open = func() (actors.Integration, error) {
			return mqttclient.Open(mqttclient.Config{PubSub: p, Downlinks: c.downlinks, Metrics: c.metrics, Input: c.input, Logger: c.log, Guard: c.guard, Notify: notify})
		}
	}
	c.set(integrationKey("pubsub", app, p.IDs.PubSubID), cfg, open)
}

func (c *connector) set(key string, cfg actors.IntegrationConfig, open func() (actors.Integration, error)) {
	c.mu.Lock()
	c.running[key] = true
	c.mu.Unlock()
	c.integrations.Set(key, cfg, open)
}

func (c *connector) stop() {
	if c.cancel != nil {
		c.cancel()
		<-c.done
	}
	c.sender.Close()
}
