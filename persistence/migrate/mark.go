package migrate

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"lorikeet/messages"
)

// markID is the document of kind KindServer that a target has until it is whole.
const markID = "migration"

// mark says what a target that is not whole was begun with.
type mark struct {
	From   string    `json:"from"`
	Source string    `json:"source"` // see identity
	Began  time.Time `json:"began"`
}

// Check refuses a store that an unfinished migration has left behind. A server asks before it uses a store.
func Check(ctx context.Context, s interface {
	GetDocument(ctx context.Context, kind messages.Kind, id string) (messages.Document, error)
}) error {
	doc, err := s.GetDocument(ctx, messages.KindServer, markID)
	if errors.Is(err, messages.ErrNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look for an unfinished migration: %w", err)
	}
	m, err := parseMark(doc)
	if err != nil {
		return err
	}
	return messages.Errorf(messages.CodePrecondition, "migration_unfinished",
		"a migration from %s that was begun at %s has not come to its end here: run it again, or use an empty store", m.From, m.Began.Format(time.RFC3339))
}

func parseMark(doc messages.Document) (m mark, err error) {
	if err := json.Unmarshal(doc.Value, &m); err != nil {
		return m, messages.Errorf(messages.CodeInternal, "mark_damaged", "the mark of a migration in this store is damaged: use an empty store")
	}
	return m, nil
}

// digest covers records regardless of their order.
type digest struct {
	records int
	sum     [sha256.Size]byte
}

func (d *digest) add(name string, value []byte) {
	h := sha256.New()
	fmt.Fprintf(h, "%d %s ", len(name), name)
	h.Write(value)
	d.records++
	for i, b := range h.Sum(nil) {
		d.sum[i] ^= b
	}
}

func documentsDigest(ctx context.Context, s Source, kind messages.Kind) (d digest, err error) {
	err = s.ScanDocuments(ctx, kind, func(doc messages.Document) error {
		if kind != messages.KindServer || doc.ID != markID {
			d.add(doc.ID, doc.Value)
		}
		return nil
	})
	if err != nil {
		return d, fmt.Errorf("read %s documents: %w", kind, err)
	}
	return d, nil
}

func sessionsDigest(ctx context.Context, s Source) (d digest, err error) {
	err = s.ScanSessions(ctx, func(id messages.DeviceID, session []byte, _ messages.Revision) error {
		d.add(id.UID(), session)
		return nil
	})
	if err != nil {
		return d, fmt.Errorf("read sessions: %w", err)
	}
	return d, nil
}

// identity tells servers apart by what they keep for themselves, for one thing the pepper of API keys. It does not tell what that is.
func identity(ctx context.Context, s Source) (string, error) {
	d, err := documentsDigest(ctx, s, messages.KindServer)
	if err == nil && d.records == 0 {
		err = messages.Errorf(messages.CodePrecondition, "source_empty", "no server has ever used the source: check where it is")
	}
	return base64.RawURLEncoding.EncodeToString(d.sum[:12]), err
}

// begin makes sure that the target is empty, or empties it if the same migration has begun it, and marks it.
func (m *migration) begin(ctx context.Context) (anew bool, err error) {
	if err := Check(ctx, m.from); err != nil {
		return false, fmt.Errorf("source: %w", err)
	}
	me := mark{From: m.From, Began: m.Now().UTC().Truncate(time.Second)}
	if me.Source, err = identity(ctx, m.from); err != nil {
		return false, err
	}
	old, err := m.to.GetDocument(ctx, messages.KindServer, markID)
	switch {
	case err == nil:
		anew = true
		before, err := parseMark(old)
		if err != nil {
			return false, err
		}
		if before.Source != me.Source {
			return false, messages.Errorf(messages.CodePrecondition, "target_of_another",
				"the target holds an unfinished migration from another server (%s): use an empty folder or namespace", before.From)
		}
	case !errors.Is(err, messages.ErrNotFound):
		return false, fmt.Errorf("look at the target: %w", err)
	default:
		if err := m.checkEmpty(ctx); err != nil {
			return false, err
		}
	}
	value, err := json.Marshal(me)
	if err != nil {
		return false, err
	}
	if err := m.to.WriteDocuments(ctx, []messages.Write{{Kind: messages.KindServer, ID: markID, Value: value, Expect: true, Revision: old.Revision}}); err != nil {
		return false, inUse(fmt.Errorf("mark the target: %w", err))
	}
	if m.mark, err = m.to.GetDocument(ctx, messages.KindServer, markID); err != nil {
		return false, fmt.Errorf("mark the target: %w", err)
	}
	if anew {
		if err := m.empty(ctx); err != nil {
			return false, fmt.Errorf("remove what an earlier migration has written: %w", err)
		}
	}
	return anew, nil
}

func (m *migration) checkEmpty(ctx context.Context) error {
	var found []string
	for _, kind := range messages.Kinds {
		d, err := documentsDigest(ctx, m.to, kind)
		if err != nil {
			return err
		}
		if d.records > 0 {
			found = append(found, fmt.Sprintf("%d documents of kind %s", d.records, kind))
		}
	}
	sessions, err := sessionsDigest(ctx, m.to)
	if err != nil {
		return err
	}
	applications, err := applicationsOf(ctx, m.from)
	if err != nil {
		return err
	}
	logs := 0
	for _, app := range applications {
		entries, err := m.to.ReadLog(ctx, app, 0, 1)
		if err != nil {
			return err
		}
		logs += len(entries)
	}
	if sessions.records > 0 {
		found = append(found, fmt.Sprintf("%d sessions", sessions.records))
	}
	if logs > 0 {
		found = append(found, fmt.Sprintf("the logs of %d applications", logs))
	}
	if len(found) == 0 {
		return nil
	}
	return messages.Errorf(messages.CodePrecondition, "target_not_empty",
		"the target is in use already, it holds %s: nothing was changed; use an empty folder or namespace", strings.Join(found, ", "))
}

// empty removes everything but the mark.
func (m *migration) empty(ctx context.Context) error {
	applications, err := applicationsOf(ctx, m.to)
	if err != nil {
		return err
	}
	of, err := applicationsOf(ctx, m.from) // a log may have been written without its application
	if err != nil {
		return err
	}
	for _, app := range append(applications, of...) {
		if err := m.to.DeleteApplication(ctx, app); err != nil {
			return err
		}
	}
	var sessions []messages.DeviceID // collected first, since a scan must not wait for writes
	if err := m.to.ScanSessions(ctx, func(id messages.DeviceID, _ []byte, _ messages.Revision) error {
		sessions = append(sessions, id)
		return nil
	}); err != nil {
		return err
	}
	if err := parallel(ctx, 64, sequence(sessions), func(ctx context.Context, id messages.DeviceID) error {
		if err := m.to.DeleteSession(ctx, id); err != nil {
			return err
		}
		return m.tell(ctx, id, nil)
	}); err != nil {
		return err
	}
	for _, kind := range messages.Kinds {
		if err := m.emptyKind(ctx, kind); err != nil {
			return err
		}
	}
	return nil
}

func (m *migration) emptyKind(ctx context.Context, kind messages.Kind) error {
	var writes []messages.Write
	if err := m.to.ScanDocuments(ctx, kind, func(doc messages.Document) error {
		if kind != messages.KindServer || doc.ID != markID {
			writes = append(writes, messages.Write{Kind: kind, ID: doc.ID})
		}
		return nil
	}); err != nil {
		return err
	}
	for len(writes) > 0 {
		n := min(len(writes), batchCount)
		if err := m.to.WriteDocuments(ctx, writes[:n]); err != nil {
			return err
		}
		writes = writes[n:]
	}
	return nil
}

// compare reads documents and sessions of both stores again, so that a source that was written meanwhile is noticed too.
func (m *migration) compare(ctx context.Context) error {
	for _, kind := range messages.Kinds {
		from, err := documentsDigest(ctx, m.from, kind)
		if err != nil {
			return err
		}
		to, err := documentsDigest(ctx, m.to, kind)
		if err != nil {
			return err
		}
		if from != to {
			return differs(fmt.Sprintf("documents of kind %s", kind), from, to)
		}
	}
	from, err := sessionsDigest(ctx, m.from)
	if err != nil {
		return err
	}
	to, err := sessionsDigest(ctx, m.to)
	if err == nil && from != to {
		err = differs("sessions", from, to)
	}
	return err
}

func differs(what string, from, to digest) error {
	return messages.Errorf(messages.CodeInternal, "copy_differs",
		"the %s (%d in the source, %d in the target) are not the same: does a server run on one of them?", what, from.records, to.records)
}

// finish removes the mark: the target is a whole store.
func (m *migration) finish(ctx context.Context) error {
	err := m.to.WriteDocuments(ctx, []messages.Write{{Kind: messages.KindServer, ID: markID, Expect: true, Revision: m.mark.Revision}})
	if err != nil {
		return inUse(fmt.Errorf("finish: %w", err))
	}
	return nil
}
