package jetstream

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"

	"lorikeet/messages"
)

const (
	headerNonce   = "Lorikeet-Nonce"   // random, of one write: tells whether it was written
	headerEvents  = "Lorikeet-Events"  // number of events in a commit
	headerDeleted = "Lorikeet-Deleted" // the message says that its record was deleted

	headerExpect      = "Nats-Expected-Last-Subject-Sequence"
	headerMsgID       = "Nats-Msg-Id"
	headerTTL         = "Nats-TTL"
	headerBatch       = "Nats-Batch-Id"
	headerBatchSeq    = "Nats-Batch-Sequence"
	headerBatchCommit = "Nats-Batch-Commit"
)

func newNonce() string {
	var b [15]byte
	_, _ = rand.Read(b[:])
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// publication is a message that is to follow a certain one on its subject.
type publication struct {
	stream, subject string
	header          nats.Header // without nonce and expectation
	data            []byte
	after           uint64 // sequence of the last message of the subject; 0: there is none
	// rebase says whether the publication may follow this message too (nil: there is none). It is asked when the last message is another than after.
	rebase func(last *stored) (bool, error)
}

// outcome of one try to publish.
type outcome int

const (
	written   outcome = iota
	stale             // the subject is, or is about to be, somewhere else than expected
	unsettled         // no good answer: it may have been written, or may be written yet
	refused           // it did not leave this node
	hopeless          // not written, and it never will
)

// append writes a message exactly once, and gives its sequence when it is durable. messages.ErrConflict: another message is in its place.
//
// A try without an answer may have been written, or may still be under way. So each write has a nonce, and every try of it the same expectation: at
// most one can succeed. Before anything is said about the outcome the leader of the stream is asked what follows the expected message.
func (s *Store) append(ctx context.Context, p publication) (uint64, error) {
	nonce := newNonce()
	maybe := false // a try may have been written
	for try := 0; ; try++ {
		seq, how, err := s.try(ctx, p, nonce)
		switch how {
		case written:
			return seq, nil
		case hopeless:
			return 0, err
		case unsettled:
			maybe = true
			s.metrics.outcome("unknown")
		}
		if how == stale || how == unsettled {
			seq, done, err := s.settle(ctx, &p, nonce, maybe)
			if done || err != nil {
				return seq, err
			}
		}
		if how == stale && try == 0 {
			continue // the expectation has been put right
		}
		s.metrics.retries.Inc()
		if wait(ctx, try) != nil {
			what := "write to " + p.stream
			if maybe {
				what += ", it is not known whether it was written"
			}
			return 0, unavailable(what, err, ctx)
		}
	}
}

// settle finds out what became of a publication. done: it was written. Neither done nor an error: it was not, and may be tried again.
func (s *Store) settle(ctx context.Context, p *publication, nonce string, maybe bool) (seq uint64, done bool, err error) {
	last, err := s.last(ctx, p.stream, p.subject)
	if err != nil {
		return 0, false, err
	}
	at := uint64(0)
	if last != nil {
		if at = last.seq; last.nonce() == nonce {
			return at, true, nil
		}
	}
	if at == p.after {
		return 0, false, nil
	}
	if maybe {
		// It may have been written and followed by another already.
		if next, err := s.next(ctx, p.stream, p.subject, p.after+1); err != nil {
			return 0, false, err
		} else if next != nil && next.nonce() == nonce {
			return next.seq, true, nil
		}
	}
	if p.rebase == nil {
		return 0, false, messages.ErrConflict
	}
	if ok, err := p.rebase(last); err != nil || !ok {
		if err == nil {
			err = messages.ErrConflict
		}
		return 0, false, err
	}
	p.after = at
	return 0, false, nil
}

// try publishes once and says how it went.
func (s *Store) try(ctx context.Context, p publication, nonce string) (uint64, outcome, error) {
	header := nats.Header{headerNonce: {nonce}, headerExpect: {strconv.FormatUint(p.after, 10)}}
	for k, v := range p.header {
		header[k] = v
	}
	return s.send(ctx, p.stream, &nats.Msg{Subject: p.subject, Header: header, Data: p.data})
}

// windowSize is how many messages are on their way to one stream at a time. More do not make it faster, and once they wait for longer than
// answerTime each of them is asked after, which makes it slower still. The others wait here, where it is known that they have not left.
const windowSize = 256

// window gives the places of the messages on their way to a stream.
func (s *Store) window(stream string) chan struct{} {
	if w, ok := s.windows.Load(stream); ok {
		return w.(chan struct{})
	}
	w, _ := s.windows.LoadOrStore(stream, make(chan struct{}, windowSize))
	return w.(chan struct{})
}

// send publishes a message, once there is place for it, and waits for the answer.
func (s *Store) send(ctx context.Context, stream string, msg *nats.Msg) (uint64, outcome, error) {
	w := s.window(stream)
	select {
	case w <- struct{}{}:
		defer func() { <-w }()
	case <-ctx.Done():
		return 0, refused, ctx.Err()
	}
	one, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	answer, err := s.nc.RequestMsgWithContext(one, msg)
	switch {
	case err == nil:
	case errors.Is(err, nats.ErrMaxPayload):
		return 0, hopeless, s.tooLarge()
	case errors.Is(err, nats.ErrConnectionClosed):
		return 0, hopeless, errConnectionClosed
	case errors.Is(err, nats.ErrNoResponders), errors.Is(err, nats.ErrReconnectBufExceeded), errors.Is(err, nats.ErrConnectionReconnecting):
		return 0, refused, err
	default:
		return 0, unsettled, err
	}
	var ack struct {
		Error *apiError `json:"error"`
		Seq   uint64    `json:"seq"`
	}
	if err := json.Unmarshal(answer.Data, &ack); err != nil {
		return 0, unsettled, fmt.Errorf("answer of NATS: %w", err)
	}
	if ack.Error == nil {
		return ack.Seq, written, nil
	}
	switch ack.Error.ErrCode {
	case codeWrongLast, codeWrongLastOther, codeNotReady:
		return 0, stale, ack.Error
	case codeTooLarge:
		return 0, hopeless, s.tooLarge()
	case codeBatchTooLarge:
		return 0, hopeless, messages.Invalid("change_too_large",
			"the NATS server takes fewer documents in one change (%s): split it, or raise jetstream { limits { batch { max_msgs } } } in its configuration", ack.Error.Description)
	}
	return 0, unsettled, ack.Error // a leader that has just lost its office may say so of what is written yet
}

func (s *Store) tooLarge() error {
	return messages.Invalid("record_too_large", "the change is larger than the NATS server takes (%d bytes): raise max_payload in its configuration to 8MB", s.nc.MaxPayload())
}

// dedupWindow is how long a stream remembers message ids.
const dedupWindow = 2 * time.Minute

// appendOnce writes a message that expects nothing. The stream recognises a second copy by its id for some time; for longer it is not tried.
func (s *Store) appendOnce(ctx context.Context, stream, subject string, header nats.Header, data []byte) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, dedupWindow*3/4)
	defer cancel()
	nonce := newNonce()
	header.Set(headerNonce, nonce)
	header.Set(headerMsgID, nonce)
	for try := 0; ; try++ {
		seq, how, err := s.send(ctx, stream, &nats.Msg{Subject: subject, Header: header, Data: data})
		switch how {
		case written:
			return seq, nil
		case hopeless:
			return 0, err
		case unsettled:
			s.metrics.outcome("unknown")
		}
		s.metrics.retries.Inc()
		if wait(ctx, try) != nil {
			return 0, unavailable("write to "+stream+", it is not known whether it was written", err, ctx)
		}
	}
}
