package natsclient

import (
	"context"
	"errors"

	"github.com/nats-io/nats.go"

	"lorikeet/gateways"
)

// subscribe takes downlink requests. The library subscribes again after each reconnect.
func (c *Client) subscribe(nc *nats.Conn) {
	for _, d := range c.set.topics.Downlinks {
		sub, err := nc.Subscribe(d.Filter, func(m *nats.Msg) { c.downlink(m, d) })
		if err == nil {
			err = sub.SetPendingLimits(1024, 16<<20)
		}
		if err != nil {
			c.cfg.Logger.Warn("can not take downlinks from NATS", "subject", d.Filter, "err", withoutURL(err))
		}
	}
}

// downlink handles one request. The library calls it for one message of a subscription after the other. The reply comes once the change is
// durable; a request without a reply subject is not acknowledged by anything.
func (c *Client) downlink(m *nats.Msg, topic gateways.DownlinkTopic) {
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
	err := c.handle(ctx, m, topic)
	if m.Reply == "" {
		return
	}
	if err := m.Respond(gateways.DownlinkReply(err)); err != nil {
		c.cfg.Logger.Debug("could not answer a downlink request", "err", withoutURL(err))
	}
}

func (c *Client) handle(ctx context.Context, m *nats.Msg, topic gateways.DownlinkTopic) (err error) {
	defer func() {
		if p := recover(); p != nil {
			c.cfg.Logger.Error("panic in a downlink request", "panic", p)
			err = errors.New("internal error")
		}
	}()
	return c.door.HandleOn(ctx, topic, m.Subject, m.Data)
}
