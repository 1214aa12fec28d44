// Package natsclient is the pub/sub provider NATS: it publishes the events of an application to a NATS server, to JetStream with its
// acknowledgement or to core NATS, and takes downlinks from there.
package natsclient

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/url"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"lorikeet/gateways"
	"lorikeet/messages"
	v3 "lorikeet/messages/v3"
)

const (
	downlinkTimeout = 10 * time.Second
	flushTimeout    = 5 * time.Second
	dialTimeout     = 5 * time.Second
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

// Client is one connection to a NATS server. It is an integration: Deliver, Wants, Close.
type Client struct {
	cfg     Config
	set     settings
	door    *gateways.DownlinkDoor
	ctx     context.Context
	cancel  context.CancelFunc
	running sync.WaitGroup
	tracker *gateways.ConnectionTracker

	mu       sync.Mutex
	closed   bool
	nc       *nats.Conn          // nil before the first try to connect
	js       jetstream.JetStream // of nc
	changed  chan struct{}       // closed at the next change of the connection
	alive    context.Context     // ends when the present connection breaks; nil before the first
	end      context.CancelFunc  // of alive
	batch    *flushBatch         // gathers what the next flush confirms
	flushing bool
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
	c := &Client{cfg: cfg, set: set, changed: make(chan struct{}), tracker: gateways.NewConnectionTracker(cfg.Notify)}
	c.door = &gateways.DownlinkDoor{
		Application: ids.ApplicationIDs.ApplicationID, Provider: "nats", Downlinks: cfg.Downlinks, Metrics: cfg.Metrics, Logger: cfg.Logger, Input: cfg.Input,
		Protobuf: set.format == gateways.FormatProtobuf, SenderRepeats: set.pulled,
	}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.running.Add(1)
	go c.connect()
	if set.pulled {
		for _, d := range set.topics.Downlinks {
			c.running.Go(func() { c.pull(d) })
		}
	}
	return c, nil
}

// connect makes the connection. The NATS library keeps it from then on.
func (c *Client) connect() {
	defer c.running.Done()
	for attempt := 0; ; attempt++ {
		nc, js, err := c.dial()
		if err == nil {
			if !c.set.pulled {
				c.subscribe(nc)
			}
			c.mu.Lock()
			c.nc, c.js = nc, js
			closed := c.closed
			c.mu.Unlock()
			if closed {
				nc.Close()
			}
			c.notify()
			return
		}
		c.cfg.Logger.Warn("can not use the NATS server; trying again", "err", withoutURL(err))
		c.tracker.Down(withoutURL(err))
		t := time.NewTimer(c.delay(attempt))
		select {
		case <-t.C:
		case <-c.ctx.Done():
			t.Stop()
			return
		}
	}
}

func (c *Client) dial() (*nats.Conn, jetstream.JetStream, error) {
	nc, err := nats.Connect(c.set.urls, c.options()...)
	if err != nil {
		return nil, nil, err
	}
	js, err := jetstream.New(nc)
	if err != nil {
		nc.Close()
		return nil, nil, err
	}
	return nc, js, nil
}

func (c *Client) options() []nats.Option {
	log := c.cfg.Logger
	options := []nats.Option{
		nats.Name("lorikeet " + c.door.Application + " " + c.cfg.PubSub.IDs.PubSubID),
		nats.RetryOnFailedConnect(true), nats.MaxReconnects(-1), nats.IgnoreAuthErrorAbort(), nats.CustomReconnectDelay(c.delay),
		nats.ReconnectBufSize(-1), // what can't be sent now is an error now
		nats.Timeout(dialTimeout), nats.PingInterval(10 * time.Second), nats.MaxPingsOutstanding(2), nats.NoCallbacksAfterClientClose(),
		nats.SetCustomDialer(c.cfg.Guard.Dialer(dialTimeout)),
		nats.ConnectHandler(func(*nats.Conn) { c.up() }),
		nats.ReconnectHandler(func(*nats.Conn) {
			log.Info("connected to the NATS server again")
			c.up()
		}),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			log.Warn("lost the NATS server", "err", withoutURL(err))
			c.down(withoutURL(err))
		}),
		nats.ReconnectErrHandler(func(_ *nats.Conn, err error) { c.tracker.Down(withoutURL(err)) }),
		nats.ErrorHandler(func(_ *nats.Conn, s *nats.Subscription, err error) {
			if s != nil && errors.Is(err, nats.ErrSlowConsumer) {
				c.cfg.Metrics.Count("nats", "dropped")
			}
			log.Warn("NATS server reports an error", "err", withoutURL(err))
			c.tracker.Error(withoutURL(err))
		}),
	}
	if c.set.tls != nil {
		options = append(options, nats.Secure(c.set.tls))
	}
	if c.set.login != nil {
		options = append(options, c.set.login)
	}
	return options
}

// delay before try n to connect: 0.1 s doubled, with a random part.
func (c *Client) delay(n int) time.Duration {
	d := c.cfg.ReconnectCap
	if n < 20 {
		d = min(d, 100*time.Millisecond<<n)
	}
	return d/2 + time.Duration(rand.Int64N(int64(d/2)+1))
}

// withoutURL is the text of a connection error; those with the URL in it, which may hold a password, are replaced.
func withoutURL(err error) string {
	var u *url.Error
	switch {
	case err == nil:
		return ""
	case errors.As(err, &u):
		return u.Err.Error()
	}
	return err.Error()
}

func (c *Client) up() {
	c.tracker.Up()
	c.mu.Lock()
	if c.end != nil {
		c.end()
	}
	c.alive, c.end = context.WithCancel(c.ctx)
	c.mu.Unlock()
	c.notify()
}

func (c *Client) down(reason string) {
	c.tracker.Down(reason)
	c.mu.Lock()
	if c.end != nil {
		c.end()
	}
	c.mu.Unlock()
	c.notify()
}

func (c *Client) notify() {
	c.mu.Lock()
	defer c.mu.Unlock()
	close(c.changed)
	c.changed = make(chan struct{})
}

// Connection says how the connection is doing.
func (c *Client) Connection() messages.ConnectionState { return c.tracker.State() }

// connected waits for the connection. alive ends when it breaks.
func (c *Client) connected(ctx context.Context) (nc *nats.Conn, alive context.Context, err error) {
	for {
		c.mu.Lock()
		nc, alive, changed, closed := c.nc, c.alive, c.changed, c.closed
		c.mu.Unlock()
		switch {
		case closed:
			return nil, nil, errors.New("the integration is closed")
		case nc != nil && nc.IsConnected() && alive != nil && alive.Err() == nil:
			return nc, alive, nil
		}
		select {
		case <-changed:
		case <-c.ctx.Done():
		case <-ctx.Done():
			if reason := c.tracker.State().LastError; reason != "" {
				return nil, nil, fmt.Errorf("no connection to the NATS server: %s", reason)
			}
			return nil, nil, errors.New("no connection to the NATS server")
		}
	}
}

// Close waits for what runs on the connection, so that a request that was carried out is acknowledged too, and ends it.
func (c *Client) Close() error {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return nil
	}
	c.closed = true
	c.mu.Unlock()
	c.cancel()
	c.running.Wait()
	c.tracker.Stop()
	c.mu.Lock()
	nc := c.nc
	c.mu.Unlock()
	if nc != nil {
		nc.Close()
	}
	return nil
}
