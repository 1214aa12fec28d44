package actors

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"lorikeet/messages"
)

const (
	// maxDeadLetters of one integration are kept. Beyond it the oldest are forgotten: an endpoint that refuses everything must not fill the store.
	maxDeadLetters  = 10_000
	roomAgain       = 500 // so many go at once, since counting is work
	deadLetterPage  = 256
	deadLetterWrite = 200         // documents in one change
	clockDifference = time.Minute // of the node that made the integration and the one that runs it
)

// DocumentStore keeps documents.
type DocumentStore interface {
	// ListDocuments gives the documents whose id has the prefix and is greater than after, in id order, at most limit.
	ListDocuments(ctx context.Context, kind messages.Kind, prefix, after string, limit int) ([]messages.Document, error)
	// WriteDocuments does all of the writes, durably, or none.
	WriteDocuments(ctx context.Context, writes []messages.Write) error
}

// deadLetters are those of one integration. A nil one has none.
type deadLetters struct {
	store  DocumentStore
	prefix string // of document ids
	since  time.Time
}

func newDeadLetters(all IntegrationsConfig, cfg IntegrationConfig) *deadLetters {
	if all.Documents == nil {
		return nil
	}
	return &deadLetters{store: all.Documents, prefix: cfg.Application + "." + documentKind(cfg.Kind) + "." + cfg.ID + ".", since: cfg.Created}
}

// letter makes a dead letter of an event. Its id says where it stands in a list, and is the same whenever the event is given up, in any store.
func (d *deadLetters) letter(e messages.LogEntry) messages.DeadLetter {
	sum := sha256.Sum256([]byte(e.ID))
	return messages.DeadLetter{
		ID:      fmt.Sprintf("%016x-%s", max(e.Time.UnixNano(), 0), hex.EncodeToString(sum[:6])),
		EventID: e.ID, DeviceID: e.Device.DeviceID, Type: e.Type, EventTime: e.Time, Seq: e.Seq,
	}
}

// note makes durable which events were given up and which arrived after all. It may be repeated. fresh of given were no dead letters before.
func (d *deadLetters) note(ctx context.Context, m *integrationMemory, given, arrived []messages.DeadLetter, fresh int) error {
	if d == nil {
		return nil
	}
	var writes []messages.Write
	for _, letter := range given {
		value, err := json.Marshal(letter)
		if err != nil {
			return err
		}
		writes = append(writes, messages.Write{Kind: messages.KindDeadLetter, ID: d.prefix + letter.ID, Value: value})
	}
	for _, letter := range arrived {
		writes = append(writes, messages.Write{Kind: messages.KindDeadLetter, ID: d.prefix + letter.ID})
	}
	for part := range slices.Chunk(writes, deadLetterWrite) {
		if err := d.store.WriteDocuments(ctx, part); err != nil {
			return err
		}
	}
	m.changeKept(fresh - len(arrived))
	if d.count(ctx, m) <= maxDeadLetters {
		return nil
	}
	return d.trim(ctx, m)
}

// trim forgets the oldest. It counts first, as the count in memory may be too high.
func (d *deadLetters) trim(ctx context.Context, m *integrationMemory) error {
	m.setKept(-1)
	n := d.count(ctx, m)
	for excess := n - maxDeadLetters + roomAgain; n > maxDeadLetters && excess > 0; {
		docs, err := d.store.ListDocuments(ctx, messages.KindDeadLetter, d.prefix, "", min(excess, deadLetterWrite))
		if err != nil || len(docs) == 0 {
			return err
		}
		if err := d.erase(ctx, m, docs); err != nil {
			return err
		}
		excess -= len(docs)
	}
	return nil
}

func (d *deadLetters) erase(ctx context.Context, m *integrationMemory, docs []messages.Document) error {
	for part := range slices.Chunk(docs, deadLetterWrite) {
		writes := make([]messages.Write, len(part))
		for i, doc := range part {
			writes[i] = messages.Write{Kind: messages.KindDeadLetter, ID: doc.ID}
		}
		if err := d.store.WriteDocuments(ctx, writes); err != nil {
			return err
		}
		m.changeKept(-len(part))
	}
	return nil
}

// count is how many there are, from memory if nothing has changed; 0 if that can't be found out now.
func (d *deadLetters) count(ctx context.Context, m *integrationMemory) int {
	if d == nil {
		return 0
	}
	if n := m.keptNow(); n >= 0 {
		return n
	}
	n := 0
	if d.each(ctx, func(messages.Document, messages.DeadLetter) { n++ }) != nil {
		return 0
	}
	m.setKept(n)
	return n
}

// each calls do for every dead letter, oldest event first. Those of a deleted integration of the same name are passed over.
func (d *deadLetters) each(ctx context.Context, do func(messages.Document, messages.DeadLetter)) error {
	for after := ""; ; {
		docs, err := d.store.ListDocuments(ctx, messages.KindDeadLetter, d.prefix, after, deadLetterPage)
		if err != nil {
			return fmt.Errorf("list dead letters: %w", err)
		}
		for _, doc := range docs {
			var letter messages.DeadLetter
			if json.Unmarshal(doc.Value, &letter) == nil && !letter.GivenUpAt.Add(clockDifference).Before(d.since) {
				do(doc, letter)
			}
		}
		if len(docs) < deadLetterPage {
			return nil
		}
		after = docs[len(docs)-1].ID
	}
}

// matches gives those that a query selects; skip and limit are not looked at.
func (d *deadLetters) matches(ctx context.Context, q messages.DeadLetterQuery) (docs []messages.Document, letters []messages.DeadLetter, err error) {
	if d == nil {
		return nil, nil, nil
	}
	err = d.each(ctx, func(doc messages.Document, letter messages.DeadLetter) {
		if len(q.IDs) > 0 && !slices.Contains(q.IDs, letter.ID) || q.DeviceID != "" && q.DeviceID != letter.DeviceID || q.Type != "" && q.Type != letter.Type ||
			q.After != nil && letter.EventTime.Before(*q.After) || q.Before != nil && !letter.EventTime.Before(*q.Before) {
			return
		}
		docs, letters = append(docs, doc), append(letters, letter)
	})
	return docs, letters, err
}

func (m *integrationMemory) setKept(n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.kept = n
}

// changeKept does nothing if they were not counted yet.
func (m *integrationMemory) changeKept(by int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.kept >= 0 {
		m.kept = max(m.kept+by, 0)
	}
}

func (m *integrationMemory) keptNow() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.kept
}

// forgetDeadLetters is a part of the deletion of an integration.
func (r *integrationRunner) forgetDeadLetters() error {
	if r.dead == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	return eraseDocuments(ctx, r.dead.store, messages.KindDeadLetter, r.dead.prefix)
}

func eraseDocuments(ctx context.Context, store DocumentStore, kind messages.Kind, prefix string) error {
	for {
		docs, err := store.ListDocuments(ctx, kind, prefix, "", deadLetterWrite)
		if err != nil || len(docs) == 0 {
			return err
		}
		writes := make([]messages.Write, len(docs))
		for i, doc := range docs {
			writes[i] = messages.Write{Kind: kind, ID: doc.ID}
		}
		if err := store.WriteDocuments(ctx, writes); err != nil {
			return err
		}
	}
}
