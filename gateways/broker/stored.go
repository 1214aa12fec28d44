package broker

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"lorikeet/messages"
)

// Store is the durable log of the applications, and keeps the sessions: one document and one cursor each.
type Store interface {
	// ReadLog gives up to max entries with Seq above after, in order; none at the end of the log.
	ReadLog(ctx context.Context, app string, after uint64, max int) ([]messages.LogEntry, error)
	// LogRange gives bounds of the Seqs that the log holds: all entries below first are gone, and all that come have more than last.
	LogRange(ctx context.Context, app string) (first, last uint64, err error)
	// WatchLog gives a channel that receives after each append (several may be one), until the returned function is called.
	WatchLog(app string) (<-chan struct{}, func())
	LoadCursor(ctx context.Context, name string) (uint64, bool, error)
	// SaveCursor is durable when it returns.
	SaveCursor(ctx context.Context, name string, seq uint64) error
	DeleteCursor(ctx context.Context, name string) error
	// GetDocument gives messages.ErrNotFound if there is none.
	GetDocument(ctx context.Context, kind messages.Kind, id string) (messages.Document, error)
	ScanDocuments(ctx context.Context, kind messages.Kind, do func(messages.Document) error) error
	// WriteDocuments does all of the writes, durably, or none; messages.ErrConflict if one is not as expected.
	WriteDocuments(ctx context.Context, writes []messages.Write) error
}

// stored is what a session is in the store. The document says who it is and what it is subscribed to, the cursor up to where everything is confirmed.
// A connection owns the document: it has raised Generation, by compare-and-set. Whoever finds a higher one has lost the session to another connection,
// perhaps at another node.
type stored struct {
	durable    atomic.Bool // the session is kept after its connection
	generation atomic.Uint64
	cursor     sync.Mutex // held while the cursor is saved, so that no older place comes after a newer one

	mu       sync.Mutex // held while the document is written; the rest is guarded by it
	exists   bool
	revision messages.Revision
	savedAt  time.Time
}

// sessionDocument is the JSON of a session that is kept.
type sessionDocument struct {
	KeyID         string               `json:"key_id"`
	Username      string               `json:"username"`
	ClientID      string               `json:"client_id"`
	Node          string               `json:"node,omitempty"`
	Generation    uint64               `json:"generation"`
	SavedAt       time.Time            `json:"saved_at"`
	LeftAt        *time.Time           `json:"left_at,omitempty"` // absent while there is a connection
	ExpirySeconds int64                `json:"expiry_seconds"`
	Subscriptions []storedSubscription `json:"subscriptions,omitempty"`
	Received      []uint16             `json:"received,omitempty"` // ids of QoS 2 messages from the client that are not released
	Place         uint64               `json:"place"`
	// What follows, and Since of the subscriptions, holds only with a cursor at Place: it counts as the log does.
	SentUpTo uint64   `json:"sent_up_to,omitempty"`
	Done     []uint64 `json:"done,omitempty"`
	Released []uint64 `json:"released,omitempty"`
}

type storedSubscription struct {
	Filter string `json:"filter"`
	QoS    byte   `json:"qos,omitempty"`
	ID     int    `json:"id,omitempty"`
	Since  uint64 `json:"since,omitempty"`
}

// documentID is that of a session's document: the application, and what no client can choose.
func (k sessionKey) documentID() string {
	app, _ := parseUsername(k.username)
	h := sha256.New()
	for _, part := range []string{k.keyID, k.username, k.clientID} {
		fmt.Fprintf(h, "%d:%s", len(part), part)
	}
	return app + "." + hex.EncodeToString(h.Sum(nil)[:16])
}

// CursorName is the name of the cursor of the session with a document id "application.rest".
func CursorName(application, rest string) string {
	return application + "/" + string(messages.KindMQTTSession) + "/" + rest
}

func (k sessionKey) cursorName() string {
	app, _ := parseUsername(k.username)
	return CursorName(app, k.documentID()[len(app)+1:])
}

// errTakenOver: another connection has the session now.
var errTakenOver = errors.New("the session was taken over")

// document is the session as it is now. left is the time of the end of the connection, nil if it goes on.
func (s *session) document(left *time.Time, expiry time.Duration) sessionDocument {
	doc := sessionDocument{
		KeyID: s.key.keyID, Username: s.key.username, ClientID: s.key.clientID, Node: s.server.cfg.Node, Generation: s.stored.generation.Load(),
		SavedAt: time.Now().UTC().Round(0), LeftAt: left, ExpirySeconds: int64(expiry / time.Second),
	}
	s.app.mu.Lock()
	defer s.app.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, text := range slices.Sorted(maps.Keys(s.subscriptions)) {
		sub := s.subscriptions[text]
		doc.Subscriptions = append(doc.Subscriptions, storedSubscription{text, sub.qos, sub.id, sub.since})
	}
	doc.Received = slices.Sorted(maps.Keys(s.received))
	doc.Place = s.settled()
	if left == nil {
		return doc
	}
	doc.SentUpTo, doc.Done = s.sentUpTo, slices.Sorted(maps.Keys(s.done))
	for _, d := range s.waiting {
		doc.Released = append(doc.Released, d.seq)
	}
	return doc
}

// save writes the document: errTakenOver if it belongs to another connection now. s.stored.mu is held.
func (s *session) save(ctx context.Context, doc sessionDocument) error {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(doc); err != nil {
		return err
	}
	id, store := s.key.documentID(), s.server.cfg.Store
	for range 2 {
		err := store.WriteDocuments(ctx, []messages.Write{{Kind: messages.KindMQTTSession, ID: id, Value: b.Bytes(), Expect: true, Revision: s.stored.revision}})
		if err != nil && !errors.Is(err, messages.ErrConflict) {
			return fmt.Errorf("save session: %w", err)
		}
		now, readErr := store.GetDocument(ctx, messages.KindMQTTSession, id)
		if readErr != nil && !errors.Is(readErr, messages.ErrNotFound) {
			return fmt.Errorf("read session: %w", readErr)
		}
		var is sessionDocument
		if readErr != nil || json.Unmarshal(now.Value, &is) != nil || is.Generation != doc.Generation || is.Node != doc.Node {
			return errTakenOver
		}
		s.stored.exists, s.stored.revision, s.stored.savedAt = true, now.Revision, doc.SavedAt
		if err == nil {
			return nil
		}
	}
	return errTakenOver
}

// keep writes what changed while the client is connected.
func (s *session) keep(ctx context.Context) error {
	if !s.stored.durable.Load() {
		return nil
	}
	s.stored.mu.Lock()
	defer s.stored.mu.Unlock()
	c := s.connection()
	if c == nil {
		return errTakenOver
	}
	return s.save(ctx, s.document(nil, c.sessionExpiry()))
}

// sayGoodBye writes that the connection is over.
func (s *session) sayGoodBye(ctx context.Context, expiry time.Duration) error {
	s.stored.mu.Lock()
	defer s.stored.mu.Unlock()
	if !s.stored.durable.Load() { // dropped meanwhile
		return nil
	}
	now := time.Now().UTC().Round(0)
	return s.save(ctx, s.document(&now, expiry))
}

// saveCursor writes the place if it has moved.
func (s *session) saveCursor(ctx context.Context) error {
	s.stored.cursor.Lock()
	defer s.stored.cursor.Unlock()
	s.mu.Lock()
	s.dirty = false
	place, saved := s.settled(), s.saved
	s.forgetDone(place)
	s.mu.Unlock()
	if place == saved {
		return nil
	}
	if err := s.server.cfg.Store.SaveCursor(ctx, s.key.cursorName(), place); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.saved = place
	return nil
}

// erase removes the session from the store, unless it belongs to another connection by now.
func (s *session) erase(ctx context.Context) error {
	s.stored.mu.Lock()
	defer s.stored.mu.Unlock()
	s.stored.durable.Store(false)
	if !s.stored.exists {
		return nil
	}
	err := eraseStored(ctx, s.server.cfg.Store, s.key.documentID(), s.stored.revision)
	if err == nil {
		s.stored.exists, s.stored.revision = false, 0
		s.server.kept.add(s.app.id, -1)
	}
	return err
}

func eraseStored(ctx context.Context, store Store, id string, revision messages.Revision) error {
	err := store.WriteDocuments(ctx, []messages.Write{{Kind: messages.KindMQTTSession, ID: id, Expect: true, Revision: revision}})
	if err != nil {
		return err
	}
	app, rest, _ := strings.Cut(id, ".")
	return store.DeleteCursor(ctx, CursorName(app, rest))
}

// keptSessions counts the sessions in the store, about: other nodes change them too, and tidyStored counts anew.
type keptSessions struct {
	mu  sync.Mutex
	all int
	of  map[string]int // by application
}

func newKeptSessions() keptSessions { return keptSessions{of: map[string]int{}} }

// room says whether an application may keep one more.
func (k *keptSessions) room(app string, limit int) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case k.of[app] >= limit/2:
		return messages.Errorf(messages.CodeExhausted, "max_sessions",
			"%d sessions of application %s are kept already: use the same client id at each login, or let sessions end with their connection", k.of[app], app)
	case k.all >= limit:
		return messages.Errorf(messages.CodeExhausted, "max_sessions", "%d MQTT sessions are kept already; raise mqtt.max_connections", k.all)
	}
	return nil
}

func (k *keptSessions) add(app string, n int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.all += n
	if k.of[app] += n; k.of[app] <= 0 {
		delete(k.of, app)
	}
}

// set takes over what was counted.
func (k *keptSessions) set(of map[string]int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.all, k.of = 0, of
	for _, n := range of {
		k.all += n
	}
}

func (k *keptSessions) total() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.all
}

// find reads the document of a session; exists is false if there is none, or none that can be read.
func (s *Server) find(ctx context.Context, key sessionKey) (doc sessionDocument, revision messages.Revision, exists bool, err error) {
	d, err := s.cfg.Store.GetDocument(ctx, messages.KindMQTTSession, key.documentID())
	switch {
	case errors.Is(err, messages.ErrNotFound):
		return doc, 0, false, nil
	case err != nil:
		return doc, 0, false, err
	}
	if json.Unmarshal(d.Value, &doc) != nil {
		s.log.Error("a stored MQTT session is damaged; its client gets a new one", "id", d.ID)
		return sessionDocument{}, d.Revision, false, nil
	}
	return doc, d.Revision, true, nil
}

// restore makes the session what the document says.
func (s *session) restore(ctx context.Context, doc sessionDocument) error {
	place, ok, err := s.server.cfg.Store.LoadCursor(ctx, s.key.cursorName())
	if err != nil {
		return err
	}
	_, last, err := s.server.cfg.Store.LogRange(ctx, s.app.id)
	if err != nil {
		return err
	}
	if !ok {
		place = doc.Place
	}
	exact := place == doc.Place
	if place > last && s.server.cfg.Node == "" { // a log that is older than the place, as from a backup
		s.server.log.Warn("the log ends before the place of an MQTT session; it goes on from the end", "application_id", s.app.id, "client_id", shown(s.key.clientID))
		place, exact = last, false
	}
	s.app.mu.Lock()
	defer s.app.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, sub := range doc.Subscriptions {
		share, levels, ok := rewriteFilter(s.key.username, sub.Filter)
		if !ok {
			continue
		}
		r := request{text: sub.Filter, share: share, levels: levels, qos: sub.QoS, id: sub.ID}
		if exact {
			r.since = sub.Since
		}
		s.app.add(s, r)
	}
	s.own = collectFilters(s.subscriptions)
	for _, id := range doc.Received {
		s.received[id] = true
	}
	s.place, s.saved = place, place
	s.sentUpTo = last // after a crash nobody knows
	if exact && doc.LeftAt != nil {
		s.sentUpTo = doc.SentUpTo
		for _, seq := range doc.Done {
			s.done[seq] = struct{}{}
		}
		for _, seq := range doc.Released {
			d := &delivery{seq: seq, id: packetID(seq), qos: 2, released: true}
			s.waiting, s.byID[d.id] = append(s.waiting, d), d
			s.sent++
		}
	}
	return nil
}

// expired says whether a session has waited for its client long enough. since is the earliest time to count from for one that was not said good-bye to,
// because its server ended.
func (d *sessionDocument) expired(now, since time.Time) bool {
	left := since
	if d.LeftAt != nil {
		left = *d.LeftAt
	}
	return now.After(left.Add(time.Duration(d.ExpirySeconds) * time.Second))
}
