package broker

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"time"

	"lorikeet/messages"
)

const (
	// saveEvery is how long confirmations are gathered before the cursor is saved. What a crash repeats is what was confirmed in this time.
	saveEvery = 200 * time.Millisecond
	savers    = 8 // cursors that are saved at once
	// moveEvery is how often the cursor of a session moves that has nothing to confirm, so that it stays within what the log keeps.
	moveEvery = time.Minute
	// tidyEvery is how often the store is searched for sessions that have ended.
	tidyEvery = 10 * time.Minute
	// touchEvery is how often the document of a connected session is written again. One that is older than twice that has lost its server.
	touchEvery = 6 * time.Hour
)

// saver gathers the sessions whose cursors are to be saved.
type saver struct {
	mu       sync.Mutex
	sessions []*session
	some     chan struct{}
}

func newSaver() saver { return saver{some: make(chan struct{}, 1)} }

func (v *saver) add(s *session) {
	v.mu.Lock()
	v.sessions = append(v.sessions, s)
	v.mu.Unlock()
	select {
	case v.some <- struct{}{}:
	default:
	}
}

func (v *saver) take() []*session {
	v.mu.Lock()
	defer v.mu.Unlock()
	out := v.sessions
	v.sessions = nil
	return out
}

// saveCursors saves what clients have confirmed. The end of a connection saves its own.
func (s *Server) saveCursors() {
	for {
		select {
		case <-s.saver.some:
		case <-s.ctx.Done():
			return
		}
		if !pause(s.ctx, saveEvery) {
			return
		}
		s.saveAll(s.saver.take())
	}
}

func (s *Server) saveAll(sessions []*session) {
	work := make(chan *session)
	var all sync.WaitGroup
	for range min(savers, len(sessions)) {
		all.Go(func() {
			for session := range work {
				s.saveOne(session)
			}
		})
	}
	for _, session := range sessions {
		work <- session
	}
	close(work)
	all.Wait()
}

func (s *Server) saveOne(session *session) {
	if session.connection() == nil || !session.stored.durable.Load() {
		session.mu.Lock()
		session.dirty = false
		session.mu.Unlock()
		return
	}
	ctx, cancel := context.WithTimeout(s.ctx, storeTimeout)
	defer cancel()
	if err := session.saveCursor(ctx); err != nil && s.ctx.Err() == nil {
		s.log.Warn("the place of an MQTT session can't be saved; trying again", "client_id", shown(session.key.clientID), "err", err)
		session.mu.Lock()
		session.dirty = true
		session.mu.Unlock()
		s.saver.add(session)
	}
}

// tidy keeps the places of idle sessions up to date, and removes sessions that have ended while nobody looked.
func (s *Server) tidy() {
	s.tidyStored(s.ctx, nil)
	tick := time.NewTicker(moveEvery)
	defer tick.Stop()
	last := time.Now()
	for {
		select {
		case <-tick.C:
		case <-s.ctx.Done():
			return
		}
		here := s.sessionsWhere(func(_ sessionKey, session *session) bool { return session.stored.durable.Load() })
		s.saveAll(here)
		for _, session := range here {
			s.touch(session)
		}
		if now := time.Now(); now.Sub(last) >= tidyEvery {
			last = now
			s.tidyStored(s.ctx, nil)
		}
	}
}

func (s *Server) touch(session *session) {
	session.stored.mu.Lock()
	old := time.Since(session.stored.savedAt) > touchEvery
	session.stored.mu.Unlock()
	if !old {
		return
	}
	ctx, cancel := context.WithTimeout(s.ctx, storeTimeout)
	defer cancel()
	if err := session.keep(ctx); err != nil && s.ctx.Err() == nil && !errors.Is(err, errTakenOver) {
		s.log.Warn("MQTT session can't be written; trying again", "client_id", shown(session.key.clientID), "err", err)
	}
}

// tidyStored removes from the store the sessions without a connection whose time is over, or whose key may not read any more. Of all, or of those
// that are asked for.
func (s *Server) tidyStored(ctx context.Context, wanted func(*sessionDocument) bool) {
	count := map[string]int{}        // by application
	rights := map[string]keyRights{} // by key and application
	var over []messages.Document
	err := s.cfg.Store.ScanDocuments(ctx, messages.KindMQTTSession, func(d messages.Document) error {
		count[applicationOf(d.ID)]++
		var doc sessionDocument
		bad := json.Unmarshal(d.Value, &doc) != nil
		if !bad && (wanted != nil && !wanted(&doc) || !s.isOver(ctx, d.ID, &doc, rights)) {
			return nil
		}
		over = append(over, messages.Document{ID: d.ID, Revision: d.Revision})
		return nil
	})
	for _, d := range over {
		if err != nil {
			break
		}
		if err = eraseStored(ctx, s.cfg.Store, d.ID, d.Revision); errors.Is(err, messages.ErrConflict) {
			err = nil // its client is back
			continue
		}
		count[applicationOf(d.ID)]--
	}
	switch {
	case err == nil:
		s.kept.set(count)
	case ctx.Err() == nil:
		s.log.Warn("the stored MQTT sessions can't be looked through; trying again later", "err", err)
	}
}

// applicationOf is the one that the session with this document id belongs to.
func applicationOf(id string) string {
	app, _, _ := strings.Cut(id, ".")
	return app
}

// keyRights are those of a key in an application.
type keyRights struct{ read, write bool }

func (s *Server) isOver(ctx context.Context, id string, doc *sessionDocument, rights map[string]keyRights) bool {
	s.mu.Lock()
	here := s.byID[id] != nil
	s.mu.Unlock()
	if here {
		return false
	}
	since := s.began
	if doc.Node != s.cfg.Node { // of another server: connected there, or that one is gone
		since = doc.SavedAt.Add(2 * touchEvery)
	}
	if doc.expired(time.Now(), since) {
		return true
	}
	app := applicationOf(id)
	may, known := rights[doc.KeyID+" "+app]
	if !known {
		access, err := s.cfg.KeyRights(ctx, app, doc.KeyID)
		unknown := err != nil && messages.CodeOf(err) != messages.CodeNotFound
		may.read = unknown || err == nil && canRead(access, app)
		may.write = unknown || err == nil && access.Can(app, messages.RightApplicationTrafficDownWrite)
		rights[doc.KeyID+" "+app] = may
	}
	if len(doc.Subscriptions) > 0 && !may.read || !may.read && !may.write {
		return true
	}
	return !s.cfg.ApplicationExists(app)
}
