package mqttclient

import (
	"context"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"lorikeet/gateways"
)

// receive must not block: paho reads nothing else meanwhile. What does not fit is not acknowledged. A persistent session sends it again on the next
// connection; else it is dropped, but a server that waits for acknowledgements (QoS 1 and 2) sends no more than its own limit before.
func (c *Client) receive(conn *connection, m mqtt.Message, topic gateways.DownlinkTopic) {
	if m.Retained() { // an old request: it would be repeated at every connect
		c.cfg.Metrics.Count("mqtt", "retained")
		go m.Ack()
		return
	}
	select {
	case c.inbox <- request{conn: conn, message: m, topic: topic}:
	default:
		c.cfg.Metrics.Count("mqtt", "dropped")
		if c.set.provider.PersistentSession {
			go conn.drop("downlink requests came faster than they can be carried out")
		}
	}
}

func (c *Client) takeDownlinks() {
	defer c.running.Done()
	defer close(c.taken)
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
	if r.message.Qos() == 0 {
		ctx, cancel := context.WithTimeout(c.ctx, downlinkTimeout)
		defer cancel()
		_ = c.handle(ctx, r, c.door.HandleOn) // was reported
		return
	}
	ctx, cancel := context.WithCancel(c.ctx)
	defer cancel()
	if c.set.provider.PersistentSession {
		if r.conn.ctx.Err() != nil {
			return // comes again
		}
		stop := context.AfterFunc(r.conn.ctx, cancel)
		defer stop()
	}
	if c.handle(ctx, r, c.keeper.HandleUntilSettled) == nil {
		r.acknowledge()
	}
}

// acknowledge does not trust the library to return if the connection breaks.
func (r request) acknowledge() {
	done := make(chan struct{})
	go func() { defer close(done); r.message.Ack() }()
	select {
	case <-done:
	case <-r.conn.ctx.Done():
	}
}

type handler func(ctx context.Context, subscription gateways.DownlinkTopic, topic string, body []byte) error

func (c *Client) handle(ctx context.Context, r request, by handler) (err error) {
	defer func() {
		if p := recover(); p != nil { // once more would be no better
			c.cfg.Logger.Error("panic in a downlink request", "panic", p)
			err = nil
		}
	}()
	return by(ctx, r.topic, r.message.Topic(), r.message.Payload())
}
