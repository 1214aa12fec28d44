package mqttclient

import (
	"context"
	"errors"
	"fmt"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"lorikeet/gateways"
	"lorikeet/messages"
)

// Wants says whether the integration has a topic for the type.
func (c *Client) Wants(t messages.EventType) bool { _, ok := c.set.topics.Events[t]; return ok }

// Deliver publishes the event. With QoS 1 and 2 it returns nil once the server has confirmed it, with QoS 0 once it was sent. Without a
// connection it waits for one until ctx ends. A connection on which no confirmation comes is given up. An event that the server seems to be too large for
// is refused for good.
func (c *Client) Deliver(ctx context.Context, e messages.LogEntry) error {
	topic, ok := c.set.topics.Events[e.Type]
	if !ok {
		return fmt.Errorf("%w: no topic for %s", messages.ErrPermanent, e.Type)
	}
	body, err := gateways.EncodeEvent(c.set.format, e)
	if err != nil {
		return err
	}
	conn, err := c.connected(ctx)
	if err != nil {
		return err
	}
	err = c.publish(ctx, conn, topic.For(e), body)
	switch {
	case err == nil:
		c.large.confirmed(e.ID, len(body))
	case c.ctx.Err() != nil:
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		conn.drop("the MQTT server confirmed nothing in time")
	case c.large.broke(e.ID, len(body)):
		return fmt.Errorf("%w: the MQTT server ends the connection over this event of %d bytes, more than any that it took: raise its limit for packets", messages.ErrPermanent, len(body))
	}
	return err
}

func (c *Client) publish(ctx context.Context, conn *connection, topic string, body []byte) error {
	token, err := conn.begin(ctx, func() mqtt.Token { return conn.client.Publish(topic, c.set.publishQoS, false, body) })
	if err != nil {
		return err
	}
	select {
	case <-token.Done():
		if err := token.Error(); err != nil {
			return fmt.Errorf("publish: %w", err)
		}
		return nil
	case <-conn.ctx.Done():
		return errors.New("the connection to the MQTT server broke before it confirmed")
	case <-ctx.Done():
		return errors.New("the MQTT server did not confirm in time")
	}
}
