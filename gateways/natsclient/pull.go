package natsclient

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"lorikeet/gateways"
)

const (
	pullWait      = 20 * time.Second
	pullAckWait   = 10 * time.Second    // a request that was in work at a crash comes again after it; one that takes longer does not, since no other is pulled meanwhile
	pullForgotten = 30 * 24 * time.Hour // a consumer that nobody pulls from is deleted by the server
)

// pull takes the requests of one subscription from the stream that keeps them, one after the other, and acknowledges each once it is durable or
// refused for good. Its durable consumer remembers the place while Lorikeet is away. Where it begins is the time when it is made.
func (c *Client) pull(topic gateways.DownlinkTopic) {
	for attempt := 0; c.ctx.Err() == nil; attempt++ {
		consumer, err := c.consumer(topic)
		if err == nil {
			attempt = 0
			err = c.pullFrom(consumer, topic)
		}
		if c.ctx.Err() != nil {
			return
		}
		c.cfg.Logger.Warn("can not take downlinks from a stream; trying again", "subject", topic.Filter, "err", withoutURL(err))
		c.tracker.Error("downlinks of " + topic.Filter + ": " + withoutURL(err))
		t := time.NewTimer(c.delay(attempt))
		select {
		case <-t.C:
		case <-c.ctx.Done():
			t.Stop()
		}
	}
}

// consumer makes or finds the durable consumer of a subscription.
func (c *Client) consumer(topic gateways.DownlinkTopic) (jetstream.Consumer, error) {
	if _, _, err := c.connected(c.ctx); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(c.ctx, flushTimeout)
	defer cancel()
	stream, err := c.js.StreamNameBySubject(ctx, topic.Filter)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil, fmt.Errorf("no stream keeps %q: make one, or take nats.jetstream.downlinks away", topic.Filter)
	}
	if err != nil {
		return nil, err
	}
	kind := "push"
	if topic.Replace {
		kind = "replace"
	}
	return c.js.CreateOrUpdateConsumer(ctx, stream, jetstream.ConsumerConfig{
		Durable:       "lorikeet-" + c.door.Application + "-" + c.cfg.PubSub.IDs.PubSubID + "-" + kind,
		FilterSubject: topic.Filter, DeliverPolicy: jetstream.DeliverNewPolicy, AckPolicy: jetstream.AckExplicitPolicy, AckWait: pullAckWait,
		MaxAckPending: 1, // in order
		MaxDeliver:    -1, InactiveThreshold: pullForgotten,
	})
}

func (c *Client) pullFrom(consumer jetstream.Consumer, topic gateways.DownlinkTopic) error {
	for {
		ctx, cancel := context.WithTimeout(c.ctx, pullWait)
		m, err := consumer.Next(jetstream.FetchContext(ctx))
		cancel()
		switch {
		case c.ctx.Err() != nil && m == nil:
			return c.ctx.Err()
		case errors.Is(err, nats.ErrTimeout), errors.Is(err, jetstream.ErrNoMessages), errors.Is(err, context.DeadlineExceeded):
			continue
		case err != nil:
			return err
		}
		if err := c.settle(m, topic); err != nil {
			return err
		}
	}
}

// settle returns an error if the message is still the server's.
func (c *Client) settle(m jetstream.Msg, topic gateways.DownlinkTopic) (err error) {
	defer func() {
		if p := recover(); p != nil { // once more would be no better
			c.cfg.Logger.Error("panic in a downlink request", "panic", p)
			err = m.Term()
		}
	}()
	if err := c.door.HandleUntilSettled(c.ctx, topic, m.Subject(), m.Data()); err != nil {
		_ = m.Nak() // so that who takes over has it at once, not after pullAckWait
		return err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.ctx), flushTimeout) // also at the end
	defer cancel()
	return m.DoubleAck(ctx)
}
