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
	farewell        = 250              // milliseconds that a connection has to end by itself
)

// Config of a Client.
type Config struct {
	PubSub    v3.PubSub
	Downlinks gateways.Downlinks        // nil: no downlinks are taken
	Metrics   *gateways.DownlinkMetrics // may be nil
	Input     v3.Input                  // how wrong downlinks are taken
	Logger    *slog.Logger
	Guard     *gateways.DialGuard       // says which addresses may be reached; nil: all
	Notify    func(what, reason string) // hears what becomes of the connection, messages.NoticeStarted and so on; it must not block, and may be nil
	// ReconnectCap is the longest wait between two tries to connect; 0 = 30 s.
	ReconnectCap time.Duration
}

// Client keeps one connection to an MQTT server. It is an integration: Deliver, Wants, Close.
type Client struct {
	cfg     Config
	set     settings
	door    *gateways.DownlinkDoor // of requests with QoS 0
	keeper  *gateways.DownlinkDoor // of those that are acknowledged
	ctx     context.Context
	cancel  context.CancelFunc
	running sync.WaitGroup
	inbox   chan request
	taken   chan struct{} // closed when no request is in work any more, at the end
	tracker *gateways.ConnectionTracker
	large   suspects

	mu      sync.Mutex
	conn    *connection   // nil while there is none
	changed chan struct{} // closed at the next change of conn
}

// connection is one paho client, used for one connection only: it never reconnects by itself, so nothing of one connection reaches the next.
type connection struct {
	client mqtt.Client
	ctx    context.Context // ends when the connection is gone
	end    context.CancelFunc
	reason string // why it is gone; set before ctx ends
	once   sync.Once
}

type request struct {
	conn    *connection
	message mqtt.Message
	topic   gateways.DownlinkTopic
}

// Open checks the configuration, starts to connect in the background and returns. The connection is made anew for ever, until Close.
func Open(cfg Config) (*Client, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	ids := cfg.PubSub.IDs
	cfg.Logger = cfg.Logger.With("integration", ids.ApplicationIDs.ApplicationID+"/pubsub/"+ids.PubSubID)
	if cfg.ReconnectCap == 0 {
		cfg.ReconnectCap = 30 * time.Second
	}
	set, err := newSettings(cfg.PubSub)
	if err != nil {
		return nil, err
	}
	if cfg.Downlinks == nil {
		set.topics.Downlinks = nil
	}
	c := &Client{cfg: cfg, set: set, changed: make(chan struct{}), inbox: make(chan request, downlinkQueue), taken: make(chan struct{}), tracker: gateways.NewConnectionTracker(cfg.Notify)}
	c.door, c.keeper = c.newDoor(false), c.newDoor(true)
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.running.Add(2)
	go c.keepConnected()
	go c.takeDownlinks()
	return c, nil
}

func (c *Client) newDoor(senderRepeats bool) *gateways.DownlinkDoor {
	return &gateways.DownlinkDoor{
		Application: c.cfg.PubSub.IDs.ApplicationIDs.ApplicationID, Provider: "mqtt", Downlinks: c.cfg.Downlinks, Metrics: c.cfg.Metrics, Logger: c.cfg.Logger, Input: c.cfg.Input,
		Protobuf: c.set.format == gateways.FormatProtobuf, SenderRepeats: senderRepeats,
	}
}

func (c *Client) keepConnected() {
	defer c.running.Done()
	for attempt := 0; c.ctx.Err() == nil; attempt++ {
		conn, err := c.connect()
		switch {
		case err == nil:
			if c.use(conn) {
				attempt = 0
			}
		case c.ctx.Err() == nil:
			c.cfg.Logger.Warn("can not use the MQTT server; trying again", "err", err)
			c.tracker.Down(err.Error())
		}
		t := time.NewTimer(c.delay(attempt))
		select {
		case <-t.C:
		case <-c.ctx.Done():
			t.Stop()
		}
	}
}

// use gives a connection to all who need one, until it breaks or the client is closed. steady: it was a good one.
func (c *Client) use(conn *connection) (steady bool) {
	since := time.Now()
	c.tracker.Up()
	c.setConnection(conn)
	reason := "the integration is closed"
	select {
	case <-conn.ctx.Done():
		reason = conn.reason
		c.cfg.Logger.Warn("lost the MQTT server", "err", reason)
		c.tracker.Down(reason)
	case <-c.ctx.Done():
		select {
		case <-c.taken: // what was carried out is acknowledged
		case <-conn.ctx.Done():
		}
	}
	c.setConnection(nil)
	conn.drop(reason)
	conn.client.Disconnect(farewell)
	return time.Since(since) > steadyAfter
}

// delay before the next try to connect: 0.1 s doubled, with a random part.
func (c *Client) delay(n int) time.Duration {
	d := c.cfg.ReconnectCap
	if n < 20 {
		d = min(d, 100*time.Millisecond<<n)
	}
	return d/2 + time.Duration(rand.Int64N(int64(d/2)+1))
}

// Connection says how the connection is doing.
func (c *Client) Connection() messages.ConnectionState { return c.tracker.State() }

func (c *Client) setConnection(conn *connection) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.conn = conn
	close(c.changed)
	c.changed = make(chan struct{})
}

// connect makes a connection and subscribes.
func (c *Client) connect() (*connection, error) {
	conn := &connection{}
	conn.ctx, conn.end = context.WithCancel(context.Background())
	options := c.set.options()
	options.SetDialer(c.cfg.Guard.Dialer(connectTimeout))
	if c.set.server.Scheme == "ws" || c.set.server.Scheme == "wss" {
		options.SetCustomOpenConnectionFn(c.openWebSocket)
	}
	options.SetAutoReconnect(false).SetConnectRetry(false).SetAutoAckDisabled(true).SetOrderMatters(true)
	options.SetConnectTimeout(connectTimeout).SetWriteTimeout(connectTimeout).SetKeepAlive(30 * time.Second).SetPingTimeout(10 * time.Second)
	options.SetConnectionLostHandler(func(_ mqtt.Client, err error) { conn.drop(fmt.Sprintf("connection lost: %v", err)) })
	if c.set.provider.PersistentSession { // of subscriptions from before the configuration changed
		options.SetDefaultPublishHandler(func(_ mqtt.Client, m mqtt.Message) {
			if conn.ctx.Err() == nil { // the next client may want it
				go m.Ack()
			}
		})
	}
	conn.client = mqtt.NewClient(options)
	for _, d := range c.set.topics.Downlinks { // what the server kept comes before it has confirmed a subscription
		conn.client.AddRoute(d.Filter, func(_ mqtt.Client, m mqtt.Message) { c.receive(conn, m, d) })
	}
	if err := c.wait(conn, conn.client.Connect()); err != nil {
		conn.drop("not connected")
		conn.client.Disconnect(farewell)
		return nil, fmt.Errorf("connect: %w", err)
	}
	for _, d := range c.set.topics.Downlinks {
		if err := c.subscribe(conn, d); err != nil {
			conn.drop("not subscribed")
			conn.client.Disconnect(farewell)
			return nil, fmt.Errorf("subscribe to %s: %w", d.Filter, err)
		}
	}
	return conn, nil
}

func (conn *connection) drop(reason string) {
	conn.once.Do(func() {
		conn.reason = reason
		conn.end()
	})
}

// begin calls a function of the library that sends something. If the connection breaks at the wrong moment, the library holds its caller until the
// write timeout; so it is called in a goroutine of its own, which then ends later than the connection.
func (conn *connection) begin(ctx context.Context, call func() mqtt.Token) (mqtt.Token, error) {
	begun := make(chan mqtt.Token, 1)
	go func() { begun <- call() }()
	select {
	case token := <-begun:
		return token, nil
	case <-conn.ctx.Done():
		return nil, errors.New("the connection to the MQTT server broke")
	case <-ctx.Done():
		return nil, errors.New("the MQTT server took nothing in time")
	}
}

// subscribe returns an error if the server does not answer. A server that refuses the subscription still gets the events.
func (c *Client) subscribe(conn *connection, d gateways.DownlinkTopic) error {
	token, err := conn.begin(c.ctx, func() mqtt.Token {
		return conn.client.Subscribe(d.Filter, c.set.subscribeQoS, nil)
	})
	if err != nil {
		return err
	}
	err = c.wait(conn, token)
	select {
	case <-token.Done():
	default:
		return err // there is no answer, and the library may be writing it
	}
	if t, ok := token.(*mqtt.SubscribeToken); ok {
		if code, answered := t.Result()[d.Filter]; answered && code > 2 {
			c.cfg.Logger.Warn("the MQTT server refuses the subscription: no downlinks are taken, change the rights of its user", "topic", d.Filter)
			c.tracker.Error("the MQTT server refuses the subscription to " + d.Filter)
			return nil
		}
	}
	return err
}

func (c *Client) wait(conn *connection, token mqtt.Token) error {
	t := time.NewTimer(connectTimeout + time.Second)
	defer t.Stop()
	select {
	case <-token.Done():
		return token.Error()
	case <-t.C:
		return errors.New("no answer in time")
	case <-conn.ctx.Done():
		return errors.New(conn.reason)
	case <-c.ctx.Done():
		return c.ctx.Err()
	}
}

// connected waits for the connection.
func (c *Client) connected(ctx context.Context) (*connection, error) {
	for {
		c.mu.Lock()
		conn, changed := c.conn, c.changed
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
		if reason := c.tracker.State().LastError; reason != "" {
			return nil, fmt.Errorf("no connection to the MQTT server: %s", reason)
		}
		return nil, errors.New("no connection to the MQTT server")
	}
}

// Close ends the connection and waits for what runs on it.
func (c *Client) Close() error {
	c.cancel()
	c.running.Wait()
	c.tracker.Stop()
	return nil
}
