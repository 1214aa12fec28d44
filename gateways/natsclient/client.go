// Package natsclient is the pub/sub provider NATS: it publishes the events of an application to a NATS server and takes downlinks from there.
package natsclient

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"lorikeet/gateways"
	"lorikeet/messages"
	v3 "lorikeet/messages/v3"
)

const (
	maxSubject      = 255
	downlinkTimeout = 10 * time.Second
	flushTimeout    = 5 * time.Second
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

// Client is one connection to a NATS server. It is an integration: Deliver, Wants, Close.
type Client struct {
	cfg      Config
	urls     string
	subjects map[messages.EventType]string
	down     []downlinkSubject
	door     *gateways.DownlinkDoor
	ctx      context.Context
	cancel   context.CancelFunc
	running  sync.WaitGroup

	mu       sync.Mutex
	closed   bool
	nc       *nats.Conn    // nil before the first try to connect
	changed  chan struct{} // closed at the next change of the connection
	batch    *flushBatch   // gathers what the next flush confirms
	flushing bool
}

type downlinkSubject struct {
	subject string
	replace bool
}

// flushBatch is the outcome of one flush for all who published before it.
type flushBatch struct {
	done chan struct{}
	err  error
}

// Open checks the configuration, starts to connect in the background and returns. The connection is made anew for ever, until Close.
func Open(cfg Config) (*Client, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.ReconnectCap == 0 {
		cfg.ReconnectCap = 30 * time.Second
	}
	c := &Client{cfg: cfg, subjects: map[messages.EventType]string{}, changed: make(chan struct{})}
	if err := c.configure(); err != nil {
		return nil, err
	}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.running.Add(1)
	go c.connect()
	return c, nil
}

// Check says what is wrong with a configuration, nil if nothing is.
func Check(p v3.PubSub) error {
	return (&Client{cfg: Config{PubSub: p}, subjects: map[messages.EventType]string{}}).configure()
}

func (c *Client) configure() (err error) {
	p := &c.cfg.PubSub
	if p.NATS == nil {
		return messages.Invalid("pubsub_provider", "nats is missing: set nats.server_url")
	}
	if p.Format != "" && p.Format != "json" {
		return messages.Invalid("pubsub_format", "format %q: only json is supported", p.Format)
	}
	if c.urls, err = checkURLs(p.NATS.ServerURL); err != nil {
		return err
	}
	for _, t := range messages.EventTypes {
		if topic, ok := p.Topic(t); ok {
			if c.subjects[t], err = subject(p.BaseTopic, topic); err != nil {
				return err
			}
		}
	}
	for topic, replace := range map[*v3.MessageTopic]bool{p.DownlinkPush: false, p.DownlinkReplace: true} {
		if topic == nil || c.cfg.Downlinks == nil {
			continue
		}
		s, err := subject(p.BaseTopic, topic.Topic)
		if err != nil {
			return err
		}
		c.down = append(c.down, downlinkSubject{subject: s, replace: replace})
	}
	if len(c.down) == 2 && c.down[0].subject == c.down[1].subject {
		return messages.Invalid("pubsub_topic", "downlink_push and downlink_replace have the same topic: give each its own")
	}
	c.door = &gateways.DownlinkDoor{
		Application: p.IDs.ApplicationIDs.ApplicationID, Provider: "nats", Downlinks: c.cfg.Downlinks, Metrics: c.cfg.Metrics, Logger: c.cfg.Logger, Input: c.cfg.Input,
	}
	return nil
}

func checkURLs(text string) (string, error) {
	for part := range strings.SplitSeq(text, ",") {
		u, err := url.Parse(strings.TrimSpace(part))
		if err != nil || u.Hostname() == "" {
			return "", messages.Invalid("pubsub_server_url", "nats.server_url is not a URL: use for example nats://user:password@nats.example.com:4222")
		}
		switch u.Scheme {
		case "nats", "tls", "ws", "wss":
		default:
			return "", messages.Invalid("pubsub_server_url", "nats.server_url has the scheme %q: use nats, tls, ws or wss", u.Scheme)
		}
	}
	return text, nil
}

// subject joins base and topic to a subject without wildcards.
func subject(base, topic string) (string, error) {
	s := strings.Join(strings.FieldsFunc(base+"\x00"+topic, func(r rune) bool { return r == 0 }), ".")
	if s == "" || len(s) > maxSubject {
		return "", messages.Invalid("pubsub_topic", "base_topic and topic must have 1 to %d characters together", maxSubject)
	}
	for token := range strings.SplitSeq(s, ".") {
		if token == "" || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r == 0x7f || r == '*' || r == '>' }) {
			return "", messages.Invalid("pubsub_topic", "%q is not a NATS subject: use words with dots between them, no spaces, no * and no >", s)
		}
	}
	if strings.HasPrefix(s, "$") || strings.HasPrefix(s, "_INBOX.") {
		return "", messages.Invalid("pubsub_topic", "%q is reserved by NATS: use another base_topic", s)
	}
	return s, nil
}

// connect makes the connection. The NATS library keeps it from then on.
func (c *Client) connect() {
	defer c.running.Done()
	for attempt := 0; ; attempt++ {
		nc, err := nats.Connect(c.urls, c.options()...)
		if err == nil {
			c.subscribe(nc)
			c.mu.Lock()
			c.nc = nc
			closed := c.closed
			c.mu.Unlock()
			if closed {
				nc.Close()
			}
			c.notify()
			return
		}
		c.cfg.Logger.Warn("can not use the NATS server; trying again", "error", withoutURL(err))
		t := time.NewTimer(c.delay(attempt))
		select {
		case <-t.C:
		case <-c.ctx.Done():
			t.Stop()
			return
		}
	}
}

func (c *Client) options() []nats.Option {
	log := c.cfg.Logger
	return []nats.Option{
		nats.Name("lorikeet " + c.door.Application + " " + c.cfg.PubSub.IDs.PubSubID),
		nats.RetryOnFailedConnect(true), nats.MaxReconnects(-1), nats.IgnoreAuthErrorAbort(), nats.CustomReconnectDelay(c.delay),
		nats.ReconnectBufSize(-1), // what can't be sent now is an error now
		nats.Timeout(5 * time.Second), nats.PingInterval(10 * time.Second), nats.MaxPingsOutstanding(2), nats.NoCallbacksAfterClientClose(),
		nats.ConnectHandler(func(*nats.Conn) { c.notify() }),
		nats.ReconnectHandler(func(*nats.Conn) { log.Info("connected to the NATS server again"); c.notify() }),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) { log.Warn("lost the NATS server", "error", withoutURL(err)); c.notify() }),
		nats.ErrorHandler(func(_ *nats.Conn, s *nats.Subscription, err error) {
			if s != nil && errors.Is(err, nats.ErrSlowConsumer) {
				c.cfg.Metrics.Count("nats", "dropped")
			}
			log.Warn("NATS server reports an error", "error", withoutURL(err))
		}),
	}
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

func (c *Client) notify() {
	c.mu.Lock()
	defer c.mu.Unlock()
	close(c.changed)
	c.changed = make(chan struct{})
}

// Wants says whether the integration has a topic for the type.
func (c *Client) Wants(t messages.EventType) bool { _, ok := c.subjects[t]; return ok }

// Deliver publishes the event and returns nil once the server has answered a PING that was sent after it: then the server has the event.
// (Core NATS keeps no message for a subscriber that is away.) Without a connection it waits for one until ctx ends.
func (c *Client) Deliver(ctx context.Context, e messages.LogEntry) error {
	subject, ok := c.subjects[e.Type]
	if !ok {
		return fmt.Errorf("%w: no topic for %s", messages.ErrPermanent, e.Type)
	}
	nc, err := c.connected(ctx)
	if err != nil {
		return err
	}
	if limit := nc.MaxPayload(); limit > 0 && int64(len(e.JSON)) > limit {
		return fmt.Errorf("%w: the event has %d bytes, the NATS server takes %d: raise its max_payload", messages.ErrPermanent, len(e.JSON), limit)
	}
	connects, before := nc.Stats().Reconnects, nc.LastError()
	if err := nc.PublishMsg(&nats.Msg{Subject: subject, Data: e.JSON, Header: header(nc, e)}); err != nil {
		return fmt.Errorf("publish: %s", withoutURL(err))
	}
	if err := c.flush(ctx, nc); err != nil {
		return fmt.Errorf("the NATS server did not confirm: %s", withoutURL(err))
	}
	if nc.Stats().Reconnects != connects {
		return errors.New("the connection to the NATS server broke before it confirmed")
	}
	// A refusal of this publish came before the PONG. It may hide behind that of another subject, so any new one counts.
	if after := nc.LastError(); after != before && errors.Is(after, nats.ErrPermissionViolation) && strings.Contains(strings.ToLower(after.Error()), "publish to") {
		return fmt.Errorf("the NATS server does not allow to publish to %q: change the rights of its user", subject)
	}
	return nil
}

// header carries the event id as the message id of JetStream, so that a stream on the subject drops repeats.
func header(nc *nats.Conn, e messages.LogEntry) nats.Header {
	if e.ID == "" || !nc.HeadersSupported() {
		return nil
	}
	return nats.Header{nats.MsgIdHdr: {e.ID}}
}

// connected waits for the connection.
func (c *Client) connected(ctx context.Context) (*nats.Conn, error) {
	for {
		c.mu.Lock()
		nc, changed, closed := c.nc, c.changed, c.closed
		c.mu.Unlock()
		switch {
		case closed:
			return nil, errors.New("the integration is closed")
		case nc != nil && nc.IsConnected():
			return nc, nil
		}
		select {
		case <-changed:
		case <-c.ctx.Done():
		case <-ctx.Done():
			if nc != nil && nc.LastError() != nil {
				return nil, fmt.Errorf("no connection to the NATS server: %s", withoutURL(nc.LastError()))
			}
			return nil, errors.New("no connection to the NATS server")
		}
	}
}

// flush waits until the server has all that was published before. One PING serves all who wait at the time.
func (c *Client) flush(ctx context.Context, nc *nats.Conn) error {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return errors.New("the integration is closed")
	}
	b := c.batch
	if b == nil {
		b = &flushBatch{done: make(chan struct{})}
		c.batch = b
		if !c.flushing {
			c.flushing = true
			c.running.Add(1)
			go c.flushBatches(nc)
		}
	}
	c.mu.Unlock()
	select {
	case <-b.done:
		return b.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (c *Client) flushBatches(nc *nats.Conn) {
	defer c.running.Done()
	for {
		c.mu.Lock()
		b := c.batch
		c.batch = nil
		if b == nil {
			c.flushing = false
			c.mu.Unlock()
			return
		}
		c.mu.Unlock()
		ctx, cancel := context.WithTimeout(c.ctx, flushTimeout)
		b.err = nc.FlushWithContext(ctx)
		cancel()
		close(b.done)
	}
}

// subscribe takes downlink requests. The library subscribes again after each reconnect.
func (c *Client) subscribe(nc *nats.Conn) {
	for _, d := range c.down {
		sub, err := nc.Subscribe(d.subject, func(m *nats.Msg) { c.downlink(m, d.replace) })
		if err == nil {
			err = sub.SetPendingLimits(1024, 16<<20)
		}
		if err != nil {
			c.cfg.Logger.Warn("can not take downlinks from NATS", "subject", d.subject, "error", withoutURL(err))
		}
	}
}

// downlink handles one request. The library calls it for one message of a subject after the other.
func (c *Client) downlink(m *nats.Msg, replace bool) {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return
	}
	c.running.Add(1)
	c.mu.Unlock()
	defer c.running.Done()
	ctx, cancel := context.WithTimeout(c.ctx, downlinkTimeout)
	defer cancel()
	err := c.handle(ctx, m.Data, replace)
	if m.Reply == "" {
		return
	}
	if err := m.Respond(gateways.DownlinkReply(err)); err != nil {
		c.cfg.Logger.Debug("could not answer a downlink request", "error", withoutURL(err))
	}
}

func (c *Client) handle(ctx context.Context, body []byte, replace bool) (err error) {
	defer func() {
		if p := recover(); p != nil {
			c.cfg.Logger.Error("panic in a downlink request", "panic", p)
			err = errors.New("internal error")
		}
	}()
	return c.door.Handle(ctx, replace, body)
}

// Close ends the connection and waits for what runs on it.
func (c *Client) Close() error {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return nil
	}
	c.closed = true
	nc := c.nc
	c.mu.Unlock()
	c.cancel()
	if nc != nil {
		nc.Close()
	}
	c.running.Wait()
	return nil
}
