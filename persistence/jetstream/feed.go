package jetstream

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go"
	js "github.com/nats-io/nats.go/jetstream"
)

const (
	feedHeartbeat = time.Second // a feed that hears nothing for twice as long begins anew
	feedWindow    = 1000        // messages on their way to a feed
	feedBytes     = 8 << 20     // and their size
	feedIdle      = 30 * time.Second
	feedTimeout   = 5 * time.Second // to make a consumer
)

// feed is what to read of a stream, in order, from a sequence on and then for ever.
type feed struct {
	stream      string
	filters     []string
	from        uint64
	headersOnly bool
	lastOnly    bool // begin with the last message of each subject, also of those before from; only for the first try
}

// errStop ends a feed without an error.
var errStop = errors.New("stop")

// follow calls do for each message of a feed, in the order of the stream and none twice, until ctx ends or do gives an error. It begins again
// behind the last message after the loss of a leader, a server or the connection, so no message is missed. begun, if it is set, is called each time
// that this has worked, and may end the feed with an error.
func (s *Store) follow(ctx context.Context, f feed, do func(*stored) error, begun func() error) error {
	s.metrics.followers.Inc()
	defer s.metrics.followers.Dec()
	next := max(f.from, 1)
	for try := 0; ; try++ {
		before := next
		err := s.followOnce(ctx, f, &next, do, begun)
		var stop *stopError
		switch {
		case errors.As(err, &stop):
			return stop.err
		case ctx.Err() != nil:
			return ctx.Err()
		}
		if next != before {
			try, f.lastOnly = 0, false
		}
		s.metrics.retries.Inc()
		s.log.Debug("a follower begins again", "stream", f.stream, "from", next, "err", err)
		if err := wait(ctx, try); err != nil {
			return err
		}
	}
}

// stopError carries the error of the callback through followOnce.
type stopError struct{ err error }

func (e *stopError) Error() string { return "stopped" }

var errGap = errors.New("a message did not arrive")

// followOnce reads through one consumer until it fails.
func (s *Store) followOnce(ctx context.Context, f feed, next *uint64, do func(*stored) error, begun func() error) error {
	one, cancel := context.WithTimeout(ctx, feedTimeout)
	defer cancel()
	cfg := js.ConsumerConfig{
		AckPolicy: js.AckNonePolicy, MaxDeliver: 1, MemoryStorage: true, Replicas: 1, InactiveThreshold: feedIdle,
		FilterSubjects: f.filters, HeadersOnly: f.headersOnly, DeliverPolicy: js.DeliverByStartSequencePolicy, OptStartSeq: *next,
	}
	if f.lastOnly {
		cfg.DeliverPolicy, cfg.OptStartSeq = js.DeliverLastPerSubjectPolicy, 0
	}
	consumer, err := s.js.CreateConsumer(one, f.stream, cfg)
	if err != nil {
		return err
	}
	info := consumer.CachedInfo()
	defer s.forget(f.stream, info.Name)
	if begun != nil {
		if err := begun(); err != nil {
			return &stopError{err}
		}
	}
	messages, err := consumer.Messages(js.PullMaxMessagesWithBytesLimit(feedWindow, feedBytes), js.PullHeartbeat(feedHeartbeat))
	if err != nil {
		return err
	}
	defer messages.Stop()
	return s.readFeed(ctx, messages, next, do)
}

func (s *Store) readFeed(ctx context.Context, messages js.MessagesContext, next *uint64, do func(*stored) error) error {
	pending := float64(0)
	defer func() { s.metrics.pending.Sub(pending) }()
	for n := uint64(1); ; n++ {
		msg, err := messages.Next(js.NextContext(ctx))
		if err != nil {
			return err
		}
		meta, err := msg.Metadata()
		if err != nil {
			return err
		}
		if meta.Sequence.Consumer != n {
			return errGap
		}
		s.metrics.pending.Add(float64(meta.NumPending) - pending)
		pending = float64(meta.NumPending)
		if meta.Sequence.Stream < *next {
			continue // a replica that is behind begins earlier than asked
		}
		m := stored{subject: msg.Subject(), seq: meta.Sequence.Stream, time: meta.Timestamp, header: msg.Headers(), data: msg.Data()}
		if err := do(&m); err != nil {
			if errors.Is(err, errStop) {
				err = nil
			}
			return &stopError{err}
		}
		*next = meta.Sequence.Stream + 1
	}
}

// forget removes a consumer soon; the server would do so after feedIdle.
func (s *Store) forget(stream, consumer string) {
	if s.nc.IsConnected() {
		_ = s.nc.PublishMsg(&nats.Msg{Subject: s.api + "CONSUMER.DELETE." + stream + "." + consumer, Reply: s.nc.NewInbox()})
	}
}
