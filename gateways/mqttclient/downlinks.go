package mqttclient

import (
	"context"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"lorikeet/gateways"
	"lorikeet/messages"
)

// receive must not block: paho reads nothing else meanwhile. What does not fit is dropped without acknowledgement; a server that
// waits for acknowledgements (QoS 1 and 2) sends no more than its own limit before.
func (c *Client) receive(m mqtt.Message, topic gateways.DownlinkTopic) {
	if m.Retained() { // an old request: it would be repeated at every connect
		c.cfg.Metrics.Count("mqtt", "retained")
		go m.Ack()
		return
	}
	select {
	case c.inbox <- request{message: m, topic: topic}:
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
	if gateways.Settled(c.handle(ctx, r)) {
		r.message.Ack()
	}
}

func (c *Client) handle(ctx context.Context, r request) (err error) {
	defer func() {
		if p := recover(); p != nil {
			c.cfg.Logger.Error("panic in a downlink request", "panic", p)
			err = messages.Invalid("internal", "internal error")
		}
	}()
	return c.door.HandleOn(ctx, r.topic, r.message.Topic(), r.message.Payload())
}
