package jetstream

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"sync"

	"lorikeet/messages"
)

// docKey is a document without its value.
type docKey struct {
	id  string
	seq uint64
}

// docKeys holds the ids of all documents, in order, so that a page of a million devices costs no more than what is on it. It is filled by a follower
// that begins with the first list. About 60 bytes a document, and the id.
type docKeys struct {
	progress
	once sync.Once

	mu    sync.Mutex
	kinds map[messages.Kind]*sortedKeys
}

func newDocKeys() *docKeys {
	d := &docKeys{kinds: make(map[messages.Kind]*sortedKeys)}
	d.init()
	return d
}

// sortedKeys is a sorted list with the changes that were not merged into it yet.
type sortedKeys struct {
	sorted  []docKey
	changes map[string]uint64 // 0: deleted
}

func (k *sortedKeys) merge() {
	if len(k.changes) == 0 {
		return
	}
	fresh := make([]docKey, 0, len(k.changes))
	for id, seq := range k.changes {
		fresh = append(fresh, docKey{id, seq})
	}
	slices.SortFunc(fresh, func(a, b docKey) int { return cmp.Compare(a.id, b.id) })
	k.changes = nil
	if k.replace(fresh) {
		return
	}
	merged := make([]docKey, 0, len(k.sorted)+len(fresh))
	i := 0
	for _, f := range fresh {
		for ; i < len(k.sorted) && k.sorted[i].id < f.id; i++ {
			merged = append(merged, k.sorted[i])
		}
		if i < len(k.sorted) && k.sorted[i].id == f.id {
			i++
		}
		if f.seq != 0 {
			merged = append(merged, f)
		}
	}
	k.sorted = append(merged, k.sorted[i:]...)
}

// replace changes the list in place if no id comes or goes.
func (k *sortedKeys) replace(fresh []docKey) bool {
	if len(fresh) > 64 {
		return false
	}
	places := make([]int, len(fresh))
	for i, f := range fresh {
		at, found := k.find(f.id)
		if !found || f.seq == 0 {
			return false
		}
		places[i] = at
	}
	for i, at := range places {
		k.sorted[at].seq = fresh[i].seq
	}
	return true
}

func (k *sortedKeys) find(id string) (int, bool) {
	return slices.BinarySearchFunc(k.sorted, id, func(k docKey, id string) int { return cmp.Compare(k.id, id) })
}

func (d *docKeys) set(kind messages.Kind, id string, seq uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	k := d.kinds[kind]
	if k == nil {
		k = &sortedKeys{}
		d.kinds[kind] = k
	}
	if k.changes == nil {
		k.changes = make(map[string]uint64)
	}
	k.changes[id] = seq
}

// page gives up to n ids with a prefix behind another id.
func (d *docKeys) page(kind messages.Kind, prefix, after string, n int) []docKey {
	d.mu.Lock()
	defer d.mu.Unlock()
	k := d.kinds[kind]
	if k == nil {
		return nil
	}
	k.merge()
	at, found := k.find(max(prefix, after))
	if found && k.sorted[at].id == after {
		at++
	}
	end := at
	for end < len(k.sorted) && end-at < n && strings.HasPrefix(k.sorted[end].id, prefix) {
		end++
	}
	return slices.Clone(k.sorted[at:end])
}

// awaitKeys waits until the list of ids has what was written on this node.
func (s *Store) awaitKeys(ctx context.Context) error {
	s.docs.once.Do(func() {
		s.work(func(ctx context.Context) {
			err := s.followAll(ctx, s.names.registry(), true, &s.docs.progress, s.takeKey)
			if ctx.Err() == nil {
				s.log.Error("the registry can't be followed", "err", err)
			}
			s.docs.fail(err)
		})
	})
	return s.docs.await(ctx, 0)
}

func (s *Store) takeKey(m *stored) error {
	kind, id, ok := s.names.parseDocument(m.subject)
	if !ok && m.subject != s.names.check() {
		return damaged(m, errors.New("its subject is not of a document"))
	}
	if ok {
		seq := m.seq
		if m.deleted() {
			seq = 0
		}
		s.docs.set(kind, id, seq)
	}
	return nil
}
