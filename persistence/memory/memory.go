// Package memory is a store that keeps everything in memory, for tests. It has the semantics of the durable stores (persistencetest compares them),
// except that it loses everything with the process and has no retention.
package memory

import (
	"bytes"
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"
	"sync"

	"lorikeet/messages"
	"lorikeet/persistence"
)

// Store keeps sessions, registry documents, logs and cursors. All its methods may be called concurrently.
type Store struct {
	mu       sync.Mutex
	closed   bool
	writes   messages.Revision // of all records together, so that a record that was deleted and made again never repeats a revision
	sessions map[string]record // by UID
	docs     map[messages.Kind]map[string]record
	logs     map[string][]messages.LogEntry
	removed  map[string]uint64 // per application: the entries that DeleteApplication dropped from the front
	cursors  map[string]uint64
	watchers map[string]map[chan struct{}]struct{}
	nodes    []*Node
}

var errClosed = messages.Errorf(messages.CodeUnavailable, "store_closed", "the store is closed")

type record struct {
	value    []byte
	revision messages.Revision
}

// New makes an empty store.
func New() *Store {
	return &Store{
		sessions: make(map[string]record),
		docs:     make(map[messages.Kind]map[string]record),
		logs:     make(map[string][]messages.LogEntry),
		removed:  make(map[string]uint64),
		cursors:  make(map[string]uint64),
		watchers: make(map[string]map[chan struct{}]struct{}),
	}
}

// enter takes the lock if the store can be used; the caller unlocks.
func (s *Store) enter(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return errClosed
	}
	return nil
}

// LoadSession gives the session record of a device; without a record nil and 0.
func (s *Store) LoadSession(ctx context.Context, id messages.DeviceID) ([]byte, messages.Revision, error) {
	if err := s.enter(ctx); err != nil {
		return nil, 0, err
	}
	defer s.mu.Unlock()
	r := s.sessions[id.UID()]
	return bytes.Clone(r.value), r.revision, nil
}

// Commit writes a session record and appends events, or does nothing and gives messages.ErrConflict. Without a Session it gives Expected back.
func (s *Store) Commit(ctx context.Context, c messages.Commit) (messages.Revision, error) {
	if err := persistence.CheckCommit(c); err != nil {
		return 0, err
	}
	if err := s.enter(ctx); err != nil {
		return 0, err
	}
	defer s.mu.Unlock()
	uid, rev := c.Device.UID(), c.Expected
	if c.Session != nil {
		if s.sessions[uid].revision != c.Expected {
			return 0, messages.ErrConflict
		}
		s.writes++
		rev = s.writes
		s.sessions[uid] = record{bytes.Clone(c.Session), rev}
	}
	app := c.Device.ApplicationID
	for _, e := range c.Events {
		e.Time = e.Time.Round(0).UTC()
		s.logs[app] = append(s.logs[app], messages.LogEntry{Seq: s.removed[app] + uint64(len(s.logs[app])) + 1, Event: e})
	}
	if len(c.Events) > 0 {
		s.signal(app)
	}
	return rev, nil
}

func (s *Store) signal(app string) {
	for w := range s.watchers[app] {
		select {
		case w <- struct{}{}:
		default:
		}
	}
}

// DeleteSession removes a session record, if there is one.
func (s *Store) DeleteSession(ctx context.Context, id messages.DeviceID) error {
	if err := persistence.CheckDevice(id); err != nil {
		return err
	}
	if err := s.enter(ctx); err != nil {
		return err
	}
	defer s.mu.Unlock()
	delete(s.sessions, id.UID())
	return nil
}

// ScanSessions calls do for every session record, in the byte order of UIDs, and stops at its first error.
func (s *Store) ScanSessions(ctx context.Context, do func(messages.DeviceID, []byte, messages.Revision) error) error {
	if err := s.enter(ctx); err != nil {
		return err
	}
	sessions := maps.Clone(s.sessions)
	s.mu.Unlock()
	for _, uid := range slices.Sorted(maps.Keys(sessions)) {
		if err := ctx.Err(); err != nil {
			return err
		}
		id, err := messages.ParseUID(uid)
		if err != nil {
			return err
		}
		r := sessions[uid]
		if err := do(id, bytes.Clone(r.value), r.revision); err != nil {
			return err
		}
	}
	return nil
}

// GetDocument gives one document, or messages.ErrNotFound.
func (s *Store) GetDocument(ctx context.Context, kind messages.Kind, id string) (messages.Document, error) {
	if err := s.enter(ctx); err != nil {
		return messages.Document{}, err
	}
	defer s.mu.Unlock()
	r, ok := s.docs[kind][id]
	if !ok {
		return messages.Document{}, messages.ErrNotFound
	}
	return messages.Document{Kind: kind, ID: id, Revision: r.revision, Value: bytes.Clone(r.value)}, nil
}

// ListDocuments gives the documents whose id has the prefix and is greater than after, in id order, at most limit (0: all).
func (s *Store) ListDocuments(ctx context.Context, kind messages.Kind, prefix, after string, limit int) ([]messages.Document, error) {
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	var docs []messages.Document
	for id, r := range s.docs[kind] {
		if strings.HasPrefix(id, prefix) && id > after {
			docs = append(docs, messages.Document{Kind: kind, ID: id, Revision: r.revision, Value: bytes.Clone(r.value)})
		}
	}
	slices.SortFunc(docs, func(a, b messages.Document) int { return cmp.Compare(a.ID, b.ID) })
	if limit > 0 && len(docs) > limit {
		docs = docs[:limit:limit]
	}
	return docs, nil
}

// ScanDocuments calls do for every document of a kind, in id order, and stops at its first error.
func (s *Store) ScanDocuments(ctx context.Context, kind messages.Kind, do func(messages.Document) error) error {
	docs, err := s.ListDocuments(ctx, kind, "", "", 0)
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
	}
	return nil
}

// WriteDocuments does all writes or none. Expectations are about the state before the call; of two writes of one document the later wins.
func (s *Store) WriteDocuments(ctx context.Context, writes []messages.Write) error {
	if err := persistence.CheckWrites(writes); err != nil {
		return err
	}
	if err := s.enter(ctx); err != nil {
		return err
	}
	defer s.mu.Unlock()
	for _, w := range writes {
		if w.Expect && s.docs[w.Kind][w.ID].revision != w.Revision {
			return messages.ErrConflict
		}
	}
	s.writes++
	for _, w := range writes {
		if w.Value == nil {
			if _, ok := s.docs[w.Kind][w.ID]; ok {
				delete(s.docs[w.Kind], w.ID)
				s.announce(w)
			}
			continue
		}
		if s.docs[w.Kind] == nil {
			s.docs[w.Kind] = make(map[string]record)
		}
		s.docs[w.Kind][w.ID] = record{bytes.Clone(w.Value), s.writes}
		s.announce(w)
	}
	return nil
}

// ReadLog gives the entries with Seq > after, at most max (0: 1000).
func (s *Store) ReadLog(ctx context.Context, app string, after uint64, max int) ([]messages.LogEntry, error) {
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	log, removed := s.logs[app], s.removed[app]
	if after > removed {
		log = log[min(after-removed, uint64(len(log))):]
	}
	if max <= 0 {
		max = 1000
	}
	if len(log) == 0 {
		return nil, nil
	}
	return slices.Clone(log[:min(max, len(log))]), nil
}

// LogRange gives the first and the last Seq that are kept; first is last+1 if there are none.
func (s *Store) LogRange(ctx context.Context, app string) (first, last uint64, err error) {
	if err := s.enter(ctx); err != nil {
		return 0, 0, err
	}
	defer s.mu.Unlock()
	return s.removed[app] + 1, s.removed[app] + uint64(len(s.logs[app])), nil
}

// CountLog gives the number of entries that are kept with after < Seq ≤ upTo.
func (s *Store) CountLog(ctx context.Context, app string, after, upTo uint64) (uint64, error) {
	first, last, err := s.LogRange(ctx, app)
	if err != nil {
		return 0, err
	}
	after, upTo = max(after, first-1), min(upTo, last)
	if upTo <= after {
		return 0, nil
	}
	return upTo - after, nil
}

// ReadHistory gives a page of the entries that a query names, in the order it asks for.
func (s *Store) ReadHistory(ctx context.Context, q messages.HistoryQuery) (page messages.HistoryPage, err error) {
	if err := s.enter(ctx); err != nil {
		return page, err
	}
	defer s.mu.Unlock()
	if q.Max <= 0 {
		q.Max = 1000
	}
	log := slices.Clone(s.logs[q.ApplicationID])
	if q.NewestFirst {
		slices.Reverse(log)
	}
	for _, e := range log {
		if q.From > 0 && (q.NewestFirst && e.Seq >= q.From || !q.NewestFirst && e.Seq <= q.From) || !q.Matches(e.Device.DeviceID, e.Type, e.Time) {
			continue
		}
		if len(page.Entries) == q.Max {
			page.Next = page.Entries[q.Max-1].Seq
			break
		}
		page.Entries = append(page.Entries, e)
	}
	return page, nil
}

// CountHistory gives how many entries a query names, for each device that has any. From, Max and NewestFirst are not looked at.
func (s *Store) CountHistory(ctx context.Context, q messages.HistoryQuery) (map[string]uint64, error) {
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	counts := make(map[string]uint64)
	for _, e := range s.logs[q.ApplicationID] {
		if q.Matches(e.Device.DeviceID, e.Type, e.Time) {
			counts[e.Device.DeviceID]++
		}
	}
	return counts, nil
}

// WatchLog gives a channel that holds a signal after entries were appended or the log was deleted. cancel ends it; the channel is never closed.
func (s *Store) WatchLog(app string) (changed <-chan struct{}, cancel func()) {
	w := make(chan struct{}, 1)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.watchers[app] == nil {
		s.watchers[app] = make(map[chan struct{}]struct{})
	}
	s.watchers[app][w] = struct{}{}
	return w, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.watchers[app], w)
		if len(s.watchers[app]) == 0 {
			delete(s.watchers, app)
		}
	}
}

// LoadCursor gives the place that was saved under the name; false if none was.
func (s *Store) LoadCursor(ctx context.Context, name string) (uint64, bool, error) {
	if err := s.enter(ctx); err != nil {
		return 0, false, err
	}
	defer s.mu.Unlock()
	seq, ok := s.cursors[name]
	return seq, ok, nil
}

// SaveCursor keeps a place in a log. It may go back.
func (s *Store) SaveCursor(ctx context.Context, name string, seq uint64) error {
	if err := persistence.CheckCursor(name); err != nil {
		return err
	}
	if err := s.enter(ctx); err != nil {
		return err
	}
	defer s.mu.Unlock()
	s.cursors[name] = seq
	return nil
}

// DeleteCursor removes a cursor, if there is one.
func (s *Store) DeleteCursor(ctx context.Context, name string) error {
	if err := persistence.CheckCursor(name); err != nil {
		return err
	}
	if err := s.enter(ctx); err != nil {
		return err
	}
	defer s.mu.Unlock()
	delete(s.cursors, name)
	return nil
}

// DeleteApplication removes the log and the cursors of an application. A log that is written again goes on counting.
func (s *Store) DeleteApplication(ctx context.Context, app string) error {
	if err := persistence.CheckApplication(app); err != nil {
		return err
	}
	if err := s.enter(ctx); err != nil {
		return err
	}
	defer s.mu.Unlock()
	s.removed[app] += uint64(len(s.logs[app]))
	delete(s.logs, app)
	maps.DeleteFunc(s.cursors, func(name string, _ uint64) bool { return strings.HasPrefix(name, app+"/") })
	s.signal(app)
	return nil
}

// Close ends the use of the store. Closing again does nothing.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for _, n := range s.nodes {
		n.move()
	}
	return nil
}
