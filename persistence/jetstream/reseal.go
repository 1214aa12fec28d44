package jetstream

import (
	"context"
	"errors"
	"sync"

	"github.com/nats-io/nats.go"

	"lorikeet/messages"
)

// After a rotation of the key-encryption key everything is brought under the new one: documents and directory entries when a node reads them
// at its start, session records when they are written next, at the latest by the trimmer. After one retention the old key is not needed any more.

// reseal gives sealed bytes under the current key.
func (s *Store) reseal(name, sealed []byte) ([]byte, error) {
	if _, _, current := s.cfg.Sealer.Key(sealed); current {
		return sealed, nil
	}
	plain, err := s.cfg.Sealer.Open(name, sealed)
	if err != nil {
		return nil, err
	}
	return s.cfg.Sealer.Seal(nil, name, plain)
}

// resealQueue holds messages that are under an older key.
type resealQueue struct {
	mu      sync.Mutex
	waiting []resealItem
	running bool
}

type resealItem struct {
	name []byte
	m    *stored
}

// resealLater writes a document or a directory entry again in the background if it is under an older key. A document has a new revision then.
func (s *Store) resealLater(name []byte, m *stored) {
	if _, _, current := s.cfg.Sealer.Key(m.data); current {
		return
	}
	q := &s.reseals
	q.mu.Lock()
	defer q.mu.Unlock()
	q.waiting = append(q.waiting, resealItem{name, m})
	if !q.running {
		q.running = true
		s.work(s.resealAll)
	}
}

func (s *Store) resealAll(ctx context.Context) {
	q := &s.reseals
	n := 0
	for {
		q.mu.Lock()
		if len(q.waiting) == 0 {
			q.running = false
			q.mu.Unlock()
			s.log.Info("records were brought under the current key-encryption key", "records", n)
			return
		}
		item := q.waiting[0]
		q.waiting = q.waiting[1:]
		q.mu.Unlock()
		if err := s.resealOne(ctx, item); err != nil {
			if ctx.Err() != nil {
				return
			}
			s.log.Warn("a record stays under an older key-encryption key until the next start", "subject", item.m.subject, "err", err)
			continue
		}
		n++
	}
}

func (s *Store) resealOne(ctx context.Context, item resealItem) error {
	data, err := s.reseal(item.name, item.m.data)
	if err != nil {
		return err
	}
	stream := s.names.registry()
	if _, ok := s.names.parseEntry(item.m.subject); ok {
		stream = s.names.directory()
	}
	_, err = s.append(ctx, publication{stream: stream, subject: item.m.subject, header: nats.Header{}, data: data, after: item.m.seq})
	if errors.Is(err, messages.ErrConflict) {
		return nil // it was written anew
	}
	return err
}
