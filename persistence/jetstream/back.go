package jetstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	js "github.com/nats-io/nats.go/jetstream"

	"lorikeet/messages"
)

// What lies further back than the ring is read through a consumer that is kept between the calls of a reader which goes forward. A batch of direct gets
// would do without, but the server counts all that matches for each of them: 100,000 entries took 9 s that way.

const (
	backBatch = 64               // messages read at once
	backMost  = 32               // consumers that are kept
	backKept  = 20 * time.Second // less than feedIdle, after which the server removes them
)

// backReader reads the log of an application, or what one device has in it, forward.
type backReader struct {
	app, device   string // device "": all
	consumer      string
	at            uint64              // everything up to this Seq was given
	left          []messages.LogEntry // read and not given yet
	next          uint64              // every message below this sequence was read
	n             uint64              // messages that the consumer has given
	used          time.Time
}

// readBack reads entries with Seq > after from the stream, at most most and about readBytes. None: there are none up to floor. Those of a device come
// with others that were committed without a session record.
func (s *Store) readBack(ctx context.Context, app, device string, after, floor uint64, most int) ([]messages.LogEntry, error) {
	for try := 0; ; try++ {
		r := s.takeBack(app, device, after)
		entries, err := s.readOn(ctx, r, floor, most)
		if err == nil {
			s.keepBack(r)
			return entries, nil
		}
		if r.consumer != "" {
			s.forget(s.names.journal(s.names.shard(app)), r.consumer)
		}
		var final *messages.Error
		if errors.As(err, &final) {
			return nil, err
		}
		s.metrics.retries.Inc()
		if wait(ctx, try) != nil {
			return nil, unavailable("read the log of "+app, err, ctx)
		}
	}
}

// readOn gives the next entries of a reader.
func (s *Store) readOn(ctx context.Context, r *backReader, floor uint64, most int) ([]messages.LogEntry, error) {
	for len(r.left) == 0 && firstSeq(r.next) <= floor {
		batch, err := s.pull(ctx, r)
		if err != nil {
			return nil, err
		}
		for _, m := range batch {
			more, err := entriesOf(m, r.at)
			if err != nil {
				return nil, damaged(m, err)
			}
			r.left = append(r.left, more...)
			r.next = m.seq + 1
		}
		if len(batch) > 0 {
			continue
		}
		// The replica has no more, but it may be behind: the leader knows.
		next, err := s.nextOf(ctx, r.app, r.device, r.next)
		if err != nil {
			return nil, err
		}
		if next == 0 || firstSeq(next) > floor {
			break
		}
		if wait(ctx, 3) != nil {
			return nil, unavailable("read the log of "+r.app, errBehind, ctx)
		}
	}
	n, size := 0, 0
	for n < len(r.left) && n < most && size < readBytes {
		size += len(r.left[n].JSON)
		n++
	}
	if n == 0 {
		return nil, nil
	}
	entries := slices.Clone(r.left[:n])
	r.left = r.left[n:]
	r.at = entries[n-1].Seq
	return entries, nil
}

// pull gets the messages that the consumer of a reader has at hand, and makes the consumer first if there is none.
func (s *Store) pull(ctx context.Context, r *backReader) ([]*stored, error) {
	stream := s.names.journal(s.names.shard(r.app))
	if r.consumer == "" {
		one, cancel := context.WithTimeout(ctx, feedTimeout)
		defer cancel()
		c, err := s.js.CreateConsumer(one, stream, js.ConsumerConfig{
			AckPolicy: js.AckNonePolicy, MaxDeliver: 1, MemoryStorage: true, Replicas: 1, InactiveThreshold: feedIdle,
			FilterSubjects: s.names.history(r.app, r.device), DeliverPolicy: js.DeliverByStartSequencePolicy, OptStartSeq: r.next,
		})
		if err != nil {
			return nil, err
		}
		r.consumer = c.CachedInfo().Name
	}
	request, err := json.Marshal(map[string]any{"batch": backBatch, "no_wait": true})
	if err != nil {
		return nil, err
	}
	inbox := s.nc.NewInbox()
	sub, err := s.nc.SubscribeSync(inbox)
	if err != nil {
		return nil, err
	}
	defer func() { _ = sub.Unsubscribe() }()
	_ = sub.SetPendingLimits(-1, -1)
	if err := s.nc.PublishRequest(s.api+"CONSUMER.MSG.NEXT."+stream+"."+r.consumer, inbox, request); err != nil {
		return nil, err
	}
	return s.pulled(ctx, r, sub)
}

// pulled reads the answers to a pull: messages, and a status if there are fewer than asked for.
func (s *Store) pulled(ctx context.Context, r *backReader, sub *nats.Subscription) (batch []*stored, err error) {
	for range backBatch {
		one, cancel := context.WithTimeout(ctx, readTime)
		msg, err := sub.NextMsgWithContext(one)
		cancel()
		if err != nil {
			return nil, err
		}
		switch status := msg.Header.Get("Status"); status {
		case "":
		case "404", "408":
			return batch, nil
		default:
			return nil, fmt.Errorf("NATS: status %s %s", status, msg.Header.Get("Description"))
		}
		meta, err := msg.Metadata()
		if err != nil {
			return nil, err
		}
		if r.n++; meta.Sequence.Consumer != r.n {
			return nil, errGap
		}
		if meta.Sequence.Stream >= r.next { // a replica that is behind begins earlier than asked
			batch = append(batch, &stored{subject: msg.Subject, seq: meta.Sequence.Stream, time: meta.Timestamp, header: msg.Header, data: msg.Data})
		}
	}
	return batch, nil
}

// takeBack gives a reader that goes on behind a Seq.
func (s *Store) takeBack(app, device string, after uint64) *backReader {
	s.backMu.Lock()
	defer s.backMu.Unlock()
	for i, r := range s.backs {
		if r.app == app && r.device == device && r.at == after && time.Since(r.used) < backKept {
			s.backs = slices.Delete(s.backs, i, i+1)
			return r
		}
	}
	return &backReader{app: app, device: device, at: after, next: max(after>>indexBits, 1)}
}

// keepBack puts a reader by for the next call.
func (s *Store) keepBack(r *backReader) {
	if r.consumer == "" {
		return
	}
	r.used = time.Now()
	s.backMu.Lock()
	defer s.backMu.Unlock()
	s.backs = append(s.backs, r)
	for len(s.backs) > backMost || time.Since(s.backs[0].used) >= backKept {
		s.forget(s.names.journal(s.names.shard(s.backs[0].app)), s.backs[0].consumer)
		s.backs = slices.Delete(s.backs, 0, 1)
	}
}
