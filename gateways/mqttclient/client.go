// Package mqttclient is the pub/sub provider MQTT: it publishes the events of an application to an external MQTT 3.1.1 server and takes
// downlinks from there.
package mqttclient

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"lorikeet/gateways"
	"lorikeet/messages"
	v3 "lorikeet/messages/v3"
)

const (
	connectTimeout  = 10 * time.Second
	downlinkTimeout = 10 * time.Second
	downlinkQueue   = 1024
	steadyAfter     = 10 * time.Second // a connection that lived so long was good
)

// Config of a Client.
type Config struct {
	PubSub    v3.PubSub
	Downlinks gateways.Downlinks        // nil: no downlinks are taken
	Metrics   *gateways.DownlinkMetrics // may be nil
	Input     v3.Input                  // how wrong downlinks are taken
	Logger    *slog.Logger
	// ReconnectCap is the longest wait between two tries to connect; 0 = 30 s.
	ReconnectCap time.Duration
}

// Client keeps one connection to an MQTT server. It is an integration: Deliver, Wants, Close.
type Client struct {
	cfg     Config
	set     settings
	door    *gateways.DownlinkDoor
	ctx     context.Context
	cancel  context.CancelFunc
	running sync.WaitGroup
	inbox   chan request

	mu      sync.Mutex
	conn    *connection   // nil while there is none
	lastErr error         // of the last try to connect
	changed chan struct{} // closed at the next change of conn
}

// connection is one paho client, used for one connection only: it never reconnects by itself, so nothing of one connection reaches the next.
type connection struct {
	client mqtt.Client
	lost   chan struct{} // closed when the connection is gone
	once   sync.Once
}

type request struct {
	message mqtt.Message
	replace bool
}

// Open checks the configuration, starts to connect in the background and returns. The connection is made anew for ever, until Close.
func Open(cfg Config) (*Client, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.ReconnectCap == 0 {
		cfg.ReconnectCap = 30 * time.Second
	}
	set, err := newSettings(cfg.PubSub)
	if err != nil {
		return nil, err
	}
	if cfg.Downlinks == nil {
		set.down = nil
	}
	c := &Client{cfg: cfg, set: set, changed: make(chan struct{}), inbox: make(chan request, downlinkQueue)}
	c.door = &gateways.DownlinkDoor{
		Application: cfg.PubSub.IDs.ApplicationIDs.ApplicationID, Provider: "mqtt", Downlinks: cfg.Downlinks, Metrics: cfg.Metrics, Logger: cfg.Logger, Input: cfg.Input,
	}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.running.Add(2)
	go c.keepConnected()
	go c.takeDownlinks()
	return c, nil
}

// Check says what is wrong with a configuration, nil if nothing is.
func Check(p v3.PubSub) error {
	_, err := newSettings(p)
	return err
}

func (c *Client) keepConnected() {
	defer c.running.Done()
	for attempt := 0; c.ctx.Err() == nil; attempt++ {
		conn, err := c.connect()
		if err != nil {
			c.cfg.Logger.Warn("can not use the MQTT server; trying again", "error", err)
			c.setConnection(nil, err)
		} else {
			since := time.Now()
			c.setConnection(conn, nil)
			select {
			case <-conn.lost:
				c.cfg.Logger.Warn("lost the MQTT server")
			case <-c.ctx.Done():
			}
			c.setConnection(nil, errors.New("connection lost"))
			conn.client.Disconnect(250)
			if time.Since(since) > steadyAfter {
				attempt = 0
			}
		}
		t := time.NewTimer(c.delay(attempt))
		select {
		case <-t.C:
		case <-c.ctx.Done():
			t.Stop()
		}
	}
}

// delay before the next try to connect: 0.1 s doubled, with a random part.
func (c *Client) delay(n int) time.Duration {
	d := c.cfg.ReconnectCap
	if n < 20 {
		d = min(d, 100*time.Millisecond<<n)
	}
	return d/2 + time.Duration(rand.Int64N(int64(d/2)+1))
}

func (c *Client) setConnection(conn *connection, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.conn, c.lastErr = conn, err
	close(c.changed)
	c.changed = make(chan struct{})
}

// connect makes a connection and subscribes.
func (c *Client) connect() (*connection, error) {
	conn := &connection{lost: make(chan struct{})}
	options := c.set.options()
	options.SetAutoReconnect(false).SetConnectRetry(false).SetCleanSession(true).SetAutoAckDisabled(true).SetOrderMatters(true)
	options.SetConnectTimeout(connectTimeout).SetWriteTimeout(connectTimeout).SetKeepAlive(30 * time.Second).SetPingTimeout(10 * time.Second)
	options.SetConnectionLostHandler(func(mqtt.Client, error) { conn.drop() })
	conn.client = mqtt.NewClient(options)
	if err := c.wait(conn.client.Connect()); err != nil {
		conn.client.Disconnect(0)
		return nil, fmt.Errorf("connect: %w", err)
	}
	for _, d := range c.set.down {
		if err := c.subscribe(conn, d); err != nil {
			conn.client.Disconnect(0)
			return nil, fmt.Errorf("subscribe to %s: %w", d.topic, err)
		}
	}
	return conn, nil
}

func (conn *connection) drop() { conn.once.Do(func() { close(conn.lost) }) }

// subscribe returns an error if the server does not answer. A server that refuses the subscription still gets the events.
func (c *Client) subscribe(conn *connection, d downlinkTopic) error {
	token := conn.client.Subscribe(d.topic, c.set.subscribeQoS, func(_ mqtt.Client, m mqtt.Message) { c.receive(m, d.replace) })
	err := c.wait(token)
	if t, ok := token.(*mqtt.SubscribeToken); ok {
		if code, answered := t.Result()[d.topic]; answered && code > 2 {
			c.cfg.Logger.Warn("the MQTT server refuses the subscription: no downlinks are taken, change the rights of its user", "topic", d.topic)
			return nil
		}
	}
	return err
}

func (c *Client) wait(token mqtt.Token) error {
	t := time.NewTimer(connectTimeout + time.Second)
	defer t.Stop()
	select {
	case <-token.Done():
		return token.Error()
	case <-t.C:
		return errors.New("no answer in time")
	case <-c.ctx.Done():
		return c.ctx.Err()
	}
}

// Wants says whether the integration has a topic for the type.
func (c *Client) Wants(t messages.EventType) bool { _, ok := c.set.topics[t]; return ok }

// Deliver publishes the event. With QoS 1 and 2 it returns nil once the server has confirmed it, with QoS 0 once it was sent. Without a
// connection it waits for one until ctx ends. A connection on which no confirmation comes is given up.
func (c *Client) Deliver(ctx context.Context, e messages.LogEntry) error {
	topic, ok := c.set.topics[e.Type]
	if !ok {
		return fmt.Errorf("%w: no topic for %s", messages.ErrPermanent, e.Type)
	}
	conn, err := c.connected(ctx)
	if err != nil {
		return err
	}
	token := conn.client.Publish(topic, c.set.publishQoS, false, e.JSON)
	select {
	case <-token.Done():
		if err := token.Error(); err != nil {
			return fmt.Errorf("publish: %w", err)
		}
		return nil
	case <-conn.lost:
		return errors.New("the connection to the MQTT server broke before it confirmed")
	case <-ctx.Done():
		if c.ctx.Err() == nil && errors.Is(ctx.Err(), context.DeadlineExceeded) {
			conn.drop()
		}
		return errors.New("the MQTT server did not confirm in time")
	}
}

// connected waits for the connection.
func (c *Client) connected(ctx context.Context) (*connection, error) {
	for {
		c.mu.Lock()
		conn, changed, lastErr := c.conn, c.changed, c.lastErr
		c.mu.Unlock()
		if conn != nil {
			return conn, nil
		}
		select {
		case <-changed:
			continue
		case <-c.ctx.Done():
			return nil, errors.New("the integration is closed")
		case <-ctx.Done():
		}
		if lastErr != nil {
			return nil, fmt.Errorf("no connection to the MQTT server: %w", lastErr)
		}
		return nil, errors.New("no connection to the MQTT server")
	}
}

// receive must not block: paho reads nothing else meanwhile. What does not fit is dropped without acknowledgement; a server that
// waits for acknowledgements (QoS 1 and 2) sends no more than its own limit before.
func (c *Client) receive(m mqtt.Message, replace bool) {
	if m.Retained() { // an old request: it would be repeated at every connect
		c.cfg.Metrics.Count("mqtt", "retained")
		go m.Ack()
		return
	}
	select {
	case c.inbox <- request{message: m, replace: replace}:
	default:
		c.cfg.Metrics.Count("mqtt", "dropped")
	}
}

func (c *Client) takeDownlinks() {
	defer c.running.Done()
	for {
		select {
		case r := <-c.inbox:
			c.downlink(r)
		case <-c.ctx.Done():
			return
		}
	}
}

// downlink acknowledges a request once it is durable or was refused for good.
func (c *Client) downlink(r request) {
	ctx, cancel := context.WithTimeout(c.ctx, downlinkTimeout)
	defer cancel()
	if gateways.Settled(c.handle(ctx, r.message.Payload(), r.replace)) {
		r.message.Ack()
	}
}

func (c *Client) handle(ctx context.Context, body []byte, replace bool) (err error) {
	defer func() {
		if p := recover(); p != nil {
			c.cfg.Logger.Error("panic in a downlink request", "panic", p)
			err = messages.Invalid("internal", "internal error")
		}
	}()
	return c.door.Handle(ctx, replace, body)
}

// Close ends the connection and waits for what runs on it.
func (c *Client) Close() error {
	c.cancel()
	c.running.Wait()
	return nil
}
