package jetstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"

	"lorikeet/messages"
)

const (
	answerTime   = 800 * time.Millisecond // after this the outcome of a publish is looked up
	readTime     = 2 * time.Second        // of one try of a read
	firstBackoff = 10 * time.Millisecond
	mostBackoff  = 250 * time.Millisecond
)

// Error codes of JetStream (errors.json of nats-server).
const (
	codeNoPeers        = 10005 // too few servers for the replicas
	codeNoReplicas     = 10074 // one server alone can't have replicas
	codeNoAccount      = 10039 // JetStream is not enabled for the account
	codeNoStream       = 10059
	codeNoMessage      = 10037
	codeTooLarge       = 10054 // message size exceeds maximum allowed
	codeWrongLast      = 10071 // wrong last sequence
	codeWrongLastOther = 10164 // the same, or another message of the subject is on its way
	codeNotReady       = 10163 // the last sequence of the subject is not known yet
	codeBatchTooLarge  = 10199
)

// apiError is the error part of an answer of JetStream.
type apiError struct {
	Code        int    `json:"code"`
	ErrCode     int    `json:"err_code"`
	Description string `json:"description"`
}

func (e *apiError) Error() string { return fmt.Sprintf("NATS: %s (%d)", e.Description, e.ErrCode) }

// stored is a message of a stream.
type stored struct {
	subject string
	seq     uint64
	time    time.Time
	header  nats.Header
	data    []byte
}

func (m *stored) nonce() string { return m.header.Get(headerNonce) }

// deleted says that the message is there to say that its document or entry is not.
func (m *stored) deleted() bool { return m.header.Get(headerDeleted) != "" }

// wait lets a moment pass that grows with each try.
func wait(ctx context.Context, try int) error {
	d := min(firstBackoff<<min(try, 10), mostBackoff)
	t := time.NewTimer(d/2 + rand.N(d/2))
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// unavailable is the error after the patience of the caller has ended.
func unavailable(what string, last error, ctx context.Context) error {
	if last == nil {
		last = errors.New("no answer")
	}
	return messages.Errorf(messages.CodeUnavailable, "store_unavailable",
		"%s: NATS JetStream gave no good answer (%v): %w. Check that a majority of its servers is up and reachable", what, last, context.Cause(ctx))
}

// call makes one request to the JetStream API and gives the answer, into which an error is read too.
func (s *Store) call(ctx context.Context, subject string, request, answer any) error {
	data, err := json.Marshal(request)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, readTime)
	defer cancel()
	msg, err := s.nc.RequestWithContext(ctx, s.api+subject, data)
	if err != nil {
		return err
	}
	var head struct {
		Error *apiError `json:"error"`
	}
	if err := json.Unmarshal(msg.Data, &head); err != nil {
		return fmt.Errorf("answer of NATS: %w", err)
	}
	if head.Error != nil {
		return head.Error
	}
	return json.Unmarshal(msg.Data, answer)
}

// retry calls until it gets an answer, through elections and reconnects, or ctx ends.
func (s *Store) retry(ctx context.Context, what, subject string, request, answer any) error {
	for try := 0; ; try++ {
		err := s.call(ctx, subject, request, answer)
		var api *apiError
		switch {
		case err == nil:
			return nil
		case errors.As(err, &api) && api.Code < 500 && api.Code != 408 && api.Code != 429:
			return err
		case errors.Is(err, nats.ErrConnectionClosed):
			return errConnectionClosed
		}
		s.metrics.retries.Inc()
		if wait(ctx, try) != nil {
			return unavailable(what, err, ctx)
		}
	}
}

type getRequest struct {
	Seq      uint64 `json:"seq,omitempty"`
	LastFor  string `json:"last_by_subj,omitempty"`
	NextFor  string `json:"next_by_subj,omitempty"`
	Batch    int    `json:"batch,omitempty"`
	MaxBytes int    `json:"max_bytes,omitempty"`

	MultiLastFor []string `json:"multi_last,omitempty"`
}

// get reads one message from the leader of a stream, which has seen every write that was acknowledged; nil if there is none.
func (s *Store) get(ctx context.Context, stream string, r getRequest) (*stored, error) {
	var answer struct {
		Message struct {
			Subject string    `json:"subject"`
			Seq     uint64    `json:"seq"`
			Header  []byte    `json:"hdrs"`
			Data    []byte    `json:"data"`
			Time    time.Time `json:"time"`
		} `json:"message"`
	}
	err := s.retry(ctx, "read "+stream, "STREAM.MSG.GET."+stream, r, &answer)
	var api *apiError
	if errors.As(err, &api) && api.ErrCode == codeNoMessage {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	m := &stored{subject: answer.Message.Subject, seq: answer.Message.Seq, time: answer.Message.Time, data: answer.Message.Data}
	if m.data == nil {
		m.data = []byte{}
	}
	if len(answer.Message.Header) > 0 {
		if m.header, err = nats.DecodeHeadersMsg(answer.Message.Header); err != nil {
			return nil, damaged(m, err)
		}
	}
	return m, nil
}

func (s *Store) last(ctx context.Context, stream, subject string) (*stored, error) {
	return s.get(ctx, stream, getRequest{LastFor: subject})
}

// next gives the first message with a matching subject from a sequence on.
func (s *Store) next(ctx context.Context, stream, subject string, seq uint64) (*stored, error) {
	return s.get(ctx, stream, getRequest{NextFor: subject, Seq: max(seq, 1)})
}

// state of a stream as its leader has it.
type state struct {
	Messages uint64            `json:"messages"`
	FirstSeq uint64            `json:"first_seq"`
	LastSeq  uint64            `json:"last_seq"`
	Subjects map[string]uint64 `json:"subjects"`
}

func (s *Store) state(ctx context.Context, stream string) (state, error) {
	st, _, err := s.subjects(ctx, stream, "", 0)
	return st, err
}

// subjects gives the state with one page of the subjects that match a filter, and how many there are.
func (s *Store) subjects(ctx context.Context, stream, filter string, offset int) (state, int, error) {
	var answer struct {
		State state `json:"state"`
		Total int   `json:"total"`
	}
	request := struct {
		Offset int    `json:"offset,omitempty"`
		Filter string `json:"subjects_filter,omitempty"`
	}{offset, filter}
	err := s.retry(ctx, "state of "+stream, "STREAM.INFO."+stream, request, &answer)
	return answer.State, answer.Total, err
}

// purge removes the messages of a subject (all, if it is empty) below a sequence (0: all).
func (s *Store) purge(ctx context.Context, stream, subject string, below uint64) error {
	request := struct {
		Filter string `json:"filter,omitempty"`
		Seq    uint64 `json:"seq,omitempty"`
	}{subject, below}
	return s.retry(ctx, "purge "+stream, "STREAM.PURGE."+stream, request, &struct{}{})
}

var errIncomplete = errors.New("a batch of messages came incomplete")

// direct reads a batch of messages from any replica of a stream, which may be behind. upTo is the last sequence that the replica had (multi_last only).
func (s *Store) direct(ctx context.Context, stream string, r getRequest) (batch []*stored, pending, upTo uint64, err error) {
	data, err := json.Marshal(r)
	if err != nil {
		return nil, 0, 0, err
	}
	for try := 0; ; try++ {
		batch, pending, upTo, err = s.directOnce(ctx, stream, data)
		if err == nil {
			return batch, pending, upTo, nil
		}
		s.metrics.retries.Inc()
		if wait(ctx, try) != nil {
			return nil, 0, 0, unavailable("read "+stream, err, ctx)
		}
	}
}

func (s *Store) directOnce(ctx context.Context, stream string, request []byte) (batch []*stored, pending, upTo uint64, err error) {
	inbox := s.nc.NewInbox()
	sub, err := s.nc.SubscribeSync(inbox)
	if err != nil {
		return nil, 0, 0, err
	}
	defer func() { _ = sub.Unsubscribe() }()
	_ = sub.SetPendingLimits(-1, -1)
	if err := s.nc.PublishRequest(s.api+"DIRECT.GET."+stream, inbox, request); err != nil {
		return nil, 0, 0, err
	}
	last := uint64(0)
	for {
		one, cancel := context.WithTimeout(ctx, readTime)
		msg, err := sub.NextMsgWithContext(one)
		cancel()
		if err != nil {
			return nil, 0, 0, err
		}
		number := func(name string) uint64 { n, _ := strconv.ParseUint(msg.Header.Get(name), 10, 64); return n }
		switch status := msg.Header.Get("Status"); status {
		case "":
		case "204":
			if number("Nats-Last-Sequence") != last {
				return nil, 0, 0, errIncomplete
			}
			return batch, number("Nats-Num-Pending"), number("Nats-UpTo-Sequence"), nil
		case "404":
			return nil, 0, 0, nil
		default:
			return nil, 0, 0, fmt.Errorf("NATS: status %s %s", status, msg.Header.Get("Description"))
		}
		if number("Nats-Last-Sequence") != last {
			return nil, 0, 0, errIncomplete
		}
		m := &stored{subject: msg.Header.Get("Nats-Subject"), seq: number("Nats-Sequence"), header: msg.Header, data: msg.Data}
		last = m.seq
		batch = append(batch, m)
	}
}
