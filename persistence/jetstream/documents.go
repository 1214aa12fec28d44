package jetstream

import (
	"context"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"

	"lorikeet/messages"
	"lorikeet/persistence"
)

const (
	tombstoneTTL = "24h" // how long a deletion can be seen by followers
	listBatch    = 256   // documents read at once
)

func documentName(kind messages.Kind, id string) []byte {
	return []byte("d" + string(kind) + "\x00" + id)
}

// document opens a message of the registry; false if it says that the document was deleted.
func (s *Store) document(kind messages.Kind, id string, m *stored) (messages.Document, bool, error) {
	if m == nil || m.deleted() {
		return messages.Document{Kind: kind, ID: id}, false, nil
	}
	value := m.data
	if persistence.Secret(kind) {
		var err error
		if value, err = s.cfg.Sealer.Open(documentName(kind, id), m.data); err != nil {
			return messages.Document{}, false, damaged(m, err)
		}
	}
	return messages.Document{Kind: kind, ID: id, Revision: messages.Revision(m.seq), Value: value}, true, nil
}

// GetDocument gives one document, or messages.ErrNotFound. It asks the leader of the stream.
func (s *Store) GetDocument(ctx context.Context, kind messages.Kind, id string) (messages.Document, error) {
	if err := s.enter(ctx); err != nil {
		return messages.Document{}, err
	}
	defer s.leave()
	m, err := s.last(ctx, s.names.registry(), s.names.document(kind, id))
	if err != nil {
		return messages.Document{}, err
	}
	d, ok, err := s.document(kind, id, m)
	if err == nil && !ok {
		err = messages.ErrNotFound
	}
	if err != nil {
		return messages.Document{}, err
	}
	return d, nil
}

// change is what WriteDocuments makes of its writes: one message a document.
type change struct {
	write   messages.Write // the later of two wins
	subject string
	expect  bool
	want    uint64 // revision that the document must have; 0: none
	after   uint64 // sequence of the message that says so
	msg     *nats.Msg
}

// WriteDocuments does all writes or none, and returns once that is durable. Expectations are about the state before the call (messages.ErrConflict);
// of two writes of one document the later wins. The server takes at most 1,000 documents in one change if it is not configured otherwise
// (jetstream { limits { batch { max_msgs } } }). If ctx ends it is not known whether the change was written.
func (s *Store) WriteDocuments(ctx context.Context, writes []messages.Write) error {
	if err := persistence.CheckWrites(writes); err != nil {
		return err
	}
	if err := s.enter(ctx); err != nil {
		return err
	}
	defer s.leave()
	if len(writes) == 0 {
		return nil
	}
	changes, err := s.changes(writes)
	if err != nil {
		return err
	}
	start := time.Now()
	seq, err := s.writeAll(ctx, changes)
	s.metrics.observe(start, err)
	if err == nil {
		s.docs.wrote(seq)
	}
	return err
}

func (s *Store) changes(writes []messages.Write) ([]*change, error) {
	var all []*change
	bySubject := make(map[string]*change, len(writes))
	for _, w := range writes {
		subject := s.names.document(w.Kind, w.ID)
		c := bySubject[subject]
		if c == nil {
			c = &change{subject: subject}
			bySubject[subject] = c
			all = append(all, c)
		}
		c.write = w
		if !w.Expect {
			continue
		}
		if c.expect && c.want != uint64(w.Revision) {
			return nil, messages.ErrConflict // it can't be at both
		}
		c.expect, c.want, c.after = true, uint64(w.Revision), uint64(w.Revision)
	}
	for _, c := range all {
		c.msg = &nats.Msg{Subject: c.subject, Header: nats.Header{}, Data: c.write.Value}
		if c.write.Value == nil {
			c.msg.Header.Set(headerDeleted, "1")
			c.msg.Header.Set(headerTTL, tombstoneTTL)
		} else if persistence.Secret(c.write.Kind) {
			sealed, err := s.cfg.Sealer.Seal(nil, documentName(c.write.Kind, c.write.ID), c.write.Value)
			if err != nil {
				return nil, err
			}
			c.msg.Data = sealed
		}
	}
	return all, nil
}

// writeAll writes a change as one atomic batch, exactly once, and gives its last sequence. It settles an unknown outcome as append does.
func (s *Store) writeAll(ctx context.Context, changes []*change) (uint64, error) {
	nonce := newNonce()
	maybe := false
	for try := 0; ; try++ {
		seq, how, err := s.sendBatch(ctx, changes, nonce, try)
		switch how {
		case written:
			return seq, nil
		case hopeless:
			return 0, err
		case unsettled:
			maybe = true
			s.metrics.outcome("unknown")
		}
		if how == stale || maybe {
			seq, done, err := s.settleBatch(ctx, changes, nonce, maybe)
			if done || err != nil {
				return seq, err
			}
		}
		if how == stale && try == 0 {
			continue
		}
		s.metrics.retries.Inc()
		if wait(ctx, try) != nil {
			what := "write to the registry"
			if maybe {
				what += ", it is not known whether it was written"
			}
			return 0, unavailable(what, err, ctx)
		}
	}
}

// sendBatch publishes all messages of a change; the answer to the last one is the answer to all.
func (s *Store) sendBatch(ctx context.Context, changes []*change, nonce string, try int) (uint64, outcome, error) {
	last := len(changes) - 1
	for i, c := range changes {
		msg := c.msg
		msg.Header.Set(headerNonce, nonce)
		if c.expect {
			msg.Header.Set(headerExpect, strconv.FormatUint(c.after, 10))
		}
		if last == 0 {
			break
		}
		msg.Header.Set(headerBatch, nonce+"-"+strconv.Itoa(try)) // a batch of its own for every try
		msg.Header.Set(headerBatchSeq, strconv.Itoa(i+1))
		if i == last {
			msg.Header.Set(headerBatchCommit, "1")
			break
		}
		if err := s.nc.PublishMsg(msg); err != nil {
			return 0, refused, err
		}
	}
	return s.send(ctx, s.names.registry(), changes[last].msg)
}

// settleBatch compares the registry with what a change expects, and finds out whether it has been written already.
func (s *Store) settleBatch(ctx context.Context, changes []*change, nonce string, maybe bool) (seq uint64, done bool, err error) {
	for i, c := range changes {
		if !c.expect && i > 0 {
			continue // the first one tells whether the change was written
		}
		last, err := s.last(ctx, s.names.registry(), c.subject)
		if err != nil {
			return 0, false, err
		}
		if last != nil && last.nonce() == nonce {
			return last.seq, true, nil
		}
		if !c.expect {
			continue
		}
		at, rev := uint64(0), uint64(0)
		if last != nil {
			at = last.seq
			if !last.deleted() {
				rev = last.seq
			}
		}
		if rev != c.want {
			if maybe {
				// It may have been written, and this document again by another since: what else it wrote tells, if it is still there.
				return s.written(ctx, changes, nonce)
			}
			return 0, false, messages.ErrConflict
		}
		c.after = at
	}
	return 0, false, nil
}

// written looks for any message of a change whose first expectation does not hold any more.
func (s *Store) written(ctx context.Context, changes []*change, nonce string) (uint64, bool, error) {
	for _, c := range changes {
		last, err := s.last(ctx, s.names.registry(), c.subject)
		if err != nil {
			return 0, false, err
		}
		if last != nil && last.nonce() == nonce {
			return last.seq, true, nil
		}
	}
	return 0, false, messages.ErrConflict
}

// ListDocuments gives the documents whose id has the prefix and is greater than after, in id order, at most limit (0: all).
// What was written on this node is there; what was written on another follows in a moment.
func (s *Store) ListDocuments(ctx context.Context, kind messages.Kind, prefix, after string, limit int) ([]messages.Document, error) {
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	defer s.leave()
	if err := s.awaitKeys(ctx); err != nil {
		return nil, err
	}
	var docs []messages.Document
	for limit <= 0 || len(docs) < limit {
		page := listBatch
		if limit > 0 {
			page = min(page, limit-len(docs))
		}
		keys := s.docs.page(kind, prefix, after, page)
		more, err := s.readDocuments(ctx, kind, keys)
		if err != nil {
			return nil, err
		}
		docs = append(docs, more...)
		if len(keys) < page {
			break
		}
		after = keys[len(keys)-1].id
	}
	return docs, nil
}

// ScanDocuments calls do for every document of a kind, in id order, and stops at its first error. Documents that change meanwhile are shown before
// or after. do may call the store.
func (s *Store) ScanDocuments(ctx context.Context, kind messages.Kind, do func(messages.Document) error) error {
	after := ""
	for {
		docs, err := s.ListDocuments(ctx, kind, "", after, listBatch)
		if err != nil {
			return err
		}
		for _, d := range docs {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := do(d); err != nil {
				return err
			}
			after = d.ID
		}
		if len(docs) < listBatch {
			return nil
		}
	}
}

// readDocuments reads documents from any replica, and from the leader where that one is behind what this node knows. Those that were deleted
// meanwhile are left out.
func (s *Store) readDocuments(ctx context.Context, kind messages.Kind, keys []docKey) ([]messages.Document, error) {
	if len(keys) == 0 {
		return nil, nil
	}
	subjects := make([]string, len(keys))
	for i, k := range keys {
		subjects[i] = s.names.document(kind, k.id)
	}
	found, _, err := s.lastOfEach(ctx, s.names.registry(), subjects)
	if err != nil {
		return nil, err
	}
	docs := make([]messages.Document, 0, len(keys))
	for i, k := range keys {
		m := found[subjects[i]]
		if m == nil || m.seq < k.seq {
			if m, err = s.last(ctx, s.names.registry(), subjects[i]); err != nil {
				return nil, err
			}
		}
		d, ok, err := s.document(kind, k.id, m)
		if err != nil {
			return nil, err
		}
		if ok {
			docs = append(docs, d)
		}
	}
	return docs, nil
}

// multiBytes bounds the subjects in one request; NATS takes a megabyte at least.
const multiBytes = 256 << 10

// lastOfEach reads the last message of each subject from any replica. upTo is the least sequence that the replicas had.
func (s *Store) lastOfEach(ctx context.Context, stream string, subjects []string) (map[string]*stored, uint64, error) {
	found := make(map[string]*stored, len(subjects))
	least := ^uint64(0)
	for len(subjects) > 0 {
		n, size := 0, 0
		for n < len(subjects) && n < listBatch && size < multiBytes {
			size += len(subjects[n]) + 3
			n++
		}
		batch, _, upTo, err := s.direct(ctx, stream, getRequest{MultiLastFor: subjects[:n]})
		if err != nil {
			return nil, 0, err
		}
		for _, m := range batch {
			found[m.subject] = m
		}
		rest := subjects[n:]
		if len(batch) > 0 {
			least = min(least, upTo)
			if len(batch) < n {
				// Some are not there, or the server ended the batch because it is large: ask for them once more.
				rest = append(missing(subjects[:n], found), rest...)
			}
		}
		subjects = rest
	}
	return found, least, nil
}

func missing(subjects []string, found map[string]*stored) []string {
	var rest []string
	for _, subject := range subjects {
		if found[subject] == nil {
			rest = append(rest, subject)
		}
	}
	return rest
}
