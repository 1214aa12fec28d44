package natsclient

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"lorikeet/gateways"
	"lorikeet/messages"
)

// Wants says whether the integration has a topic for the type.
func (c *Client) Wants(t messages.EventType) bool { _, ok := c.set.topics.Events[t]; return ok }

// Deliver publishes the event. With nats.jetstream it returns nil once a stream has acknowledged that it keeps the event. With core NATS it returns
// nil once the server has answered a PING that was sent after the event: then the server has it, which says nothing of subscribers, since core NATS
// keeps no message for one that is away. Without a connection it waits for one until ctx ends.
func (c *Client) Deliver(ctx context.Context, e messages.LogEntry) error {
	topic, ok := c.set.topics.Events[e.Type]
	if !ok {
		return fmt.Errorf("%w: no topic for %s", messages.ErrPermanent, e.Type)
	}
	body, err := gateways.EncodeEvent(c.set.format, e)
	if err != nil {
		return err
	}
	nc, err := c.connected(ctx)
	if err != nil {
		return err
	}
	if limit := nc.MaxPayload(); limit > 0 && int64(len(body)) > limit {
		return fmt.Errorf("%w: the event has %d bytes, the NATS server takes %d: raise its max_payload", messages.ErrPermanent, len(body), limit)
	}
	m := &nats.Msg{Subject: topic.For(e), Data: body, Header: header(nc, e)}
	if c.set.acked {
		return c.publishAcked(ctx, nc, m)
	}
	return c.publish(ctx, nc, m)
}

// header carries the event id as the message id of JetStream, so that a stream on the subject drops repeats.
func header(nc *nats.Conn, e messages.LogEntry) nats.Header {
	if e.ID == "" || !nc.HeadersSupported() {
		return nil
	}
	return nats.Header{nats.MsgIdHdr: {e.ID}}
}

// publishAcked waits for the acknowledgement of the stream. A repeat that the stream knows is as good as stored.
func (c *Client) publishAcked(ctx context.Context, nc *nats.Conn, m *nats.Msg) error {
	options := []jetstream.PublishOpt{jetstream.WithRetryAttempts(0)} // who calls tries again
	if c.set.stream != "" {
		options = append(options, jetstream.WithExpectStream(c.set.stream))
	}
	_, err := c.js.PublishMsg(ctx, m, options...)
	var api *jetstream.APIError
	switch {
	case err == nil:
		return nil
	case errors.Is(err, jetstream.ErrNoStreamResponse), errors.Is(err, nats.ErrNoResponders):
		return fmt.Errorf("no stream keeps the subject %q: make a stream on it, or take nats.jetstream away", m.Subject)
	case errors.As(err, &api) && api.ErrorCode == streamMessageTooLarge:
		return fmt.Errorf("%w: the stream does not take events of %d bytes: raise its max_msg_size", messages.ErrPermanent, len(m.Data))
	case errors.As(err, &api):
		return fmt.Errorf("the stream refuses the event: %s", api.Description)
	case errors.Is(err, context.DeadlineExceeded) && errors.Is(nc.LastError(), nats.ErrPermissionViolation):
		return fmt.Errorf("the NATS server does not allow to publish to %q, or to hear the answer on _INBOX.>: change the rights of its user", m.Subject)
	case errors.Is(err, context.DeadlineExceeded):
		return errors.New("no stream acknowledged the event in time")
	}
	return fmt.Errorf("publish: %s", withoutURL(err))
}

// streamMessageTooLarge is JetStream's error code for a message above max_msg_size.
const streamMessageTooLarge = 10054

// publish has the server confirm that it has the message.
func (c *Client) publish(ctx context.Context, nc *nats.Conn, m *nats.Msg) error {
	connects, before := nc.Stats().Reconnects, nc.LastError()
	if err := nc.PublishMsg(m); err != nil {
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
		return fmt.Errorf("the NATS server does not allow to publish to %q: change the rights of its user", m.Subject)
	}
	return nil
}

// flushBatch is the outcome of one flush for all who published before it.
type flushBatch struct {
	done chan struct{}
	err  error
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
