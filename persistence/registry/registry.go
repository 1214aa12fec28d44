// Package registry keeps what people configure: applications, devices, links, webhooks, pub/sub integrations, API keys and
// radio gateways. Each is one JSON document of its v3 entity in the store. What the hot paths ask for (the EUI pairs of
// devices, the EUIs of radio gateways, API keys, application ids) is held in memory too, about 100 bytes a device.
//
// A write is durable before it is in memory, before watchers hear of it and before its caller is answered. Writes of one
// document come to memory and to the watchers in the order of the store. What a device does (session, counters, nonces) is
// not here: the device actor owns it.
//
// Several nodes may run a registry over one shared store (see sharedStore). Then memory and watchers are fed by following the
// store only, so that they hear of the writes of all nodes in one order; a write is answered when this node has heard of it.
package registry

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"lorikeet/messages"
	"lorikeet/messages/keywrap"
)

// Store keeps the documents. All methods may be called at once.
type Store interface {
	// GetDocument gives messages.ErrNotFound if there is none.
	GetDocument(ctx context.Context, kind messages.Kind, id string) (messages.Document, error)
	// ListDocuments gives the documents whose id has the prefix and is greater than after, in id order, at most limit.
	ListDocuments(ctx context.Context, kind messages.Kind, prefix, after string, limit int) ([]messages.Document, error)
	// ScanDocuments calls do for every document of a kind and stops at its first error.
	ScanDocuments(ctx context.Context, kind messages.Kind, do func(messages.Document) error) error
	// WriteDocuments does all of the writes, durably, or none; messages.ErrConflict if one is not as expected.
	WriteDocuments(ctx context.Context, writes []messages.Write) error
}

// DefaultMaxSeenGateways bounds what strangers can make the registry remember by sending from made-up EUIs.
const DefaultMaxSeenGateways = 10_000

// Config of a Registry. Its zero value works.
type Config struct {
	Clock           func() time.Time // nil: time.Now
	Rand            io.Reader        // source of keys; nil: crypto/rand
	Log             *slog.Logger     // nil: none
	MaxSeenGateways int              // radio gateways that RegisterSeenGateway may create; 0: DefaultMaxSeenGateways
	// KEKs of the server's configuration, by label. Every node of a cluster has the same.
	KEKs      map[string]keywrap.KEK
	OnFailure func(error) // called once if a shared store can't be followed any more; the node must stop, for its memory gets old. nil: only logged
}

// Registry of one server. All methods may be called at once. Entities given out are the caller's own copies.
type Registry struct {
	store   Store
	clock   func() time.Time
	log     *slog.Logger
	maxSeen int
	pepper  []byte
	keks    map[string]keywrap.KEK
	index   index
	follow  *follower // nil if only this node writes the store

	randMutex sync.Mutex
	rand      io.Reader

	seed    maphash.Seed
	stripes [512]sync.Mutex // by document: from before its write until memory and watchers have it; not with a follower

	watchMutex sync.Mutex // of writes to watchers
	watchers   atomic.Pointer[[]*func(messages.Change)]
}

// Open reads what is held in memory. A damaged document is logged and left out: it must not keep the server from starting.
func Open(ctx context.Context, store Store, cfg Config) (*Registry, error) {
	r := &Registry{store: store, clock: cfg.Clock, log: cfg.Log, maxSeen: cfg.MaxSeenGateways, rand: cfg.Rand, index: newIndex(), keks: cfg.KEKs, seed: maphash.MakeSeed()}
	if r.clock == nil {
		r.clock = time.Now
	}
	if r.rand == nil {
		r.rand = rand.Reader
	}
	if r.log == nil {
		r.log = slog.New(slog.DiscardHandler)
	}
	if r.maxSeen == 0 {
		r.maxSeen = DefaultMaxSeenGateways
	}
	r.log = r.log.With("component", "registry")
	r.watchers.Store(&[]*func(messages.Change){})
	if err := r.loadPepper(ctx); err != nil {
		return nil, fmt.Errorf("open registry: %w", err)
	}
	load := r.loadIndex
	if shared, ok := store.(sharedStore); ok {
		r.follow = newFollower(shared, r, cfg.OnFailure)
		load = r.follow.start
	}
	if err := load(ctx); err != nil {
		r.Close()
		return nil, fmt.Errorf("open registry: %w", err)
	}
	return r, nil
}

// Close ends the following of a shared store; the watchers hear of nothing any more. Without one it does nothing.
func (r *Registry) Close() {
	if r.follow != nil {
		r.follow.stop()
	}
}

// Watch calls fn after each write, in the order of the writes of one document. fn must not block and must not write to the
// registry, but may ask it; it may still be called once while cancel runs.
func (r *Registry) Watch(fn func(messages.Change)) (cancel func()) {
	w := &fn
	r.changeWatchers(func(all []*func(messages.Change)) []*func(messages.Change) { return append(all, w) })
	return func() {
		r.changeWatchers(func(all []*func(messages.Change)) []*func(messages.Change) {
			for i := range all {
				if all[i] == w {
					return append(all[:i], all[i+1:]...)
				}
			}
			return all
		})
	}
}

// changeWatchers gives change a copy, since emit reads without a lock.
func (r *Registry) changeWatchers(change func([]*func(messages.Change)) []*func(messages.Change)) {
	r.watchMutex.Lock()
	defer r.watchMutex.Unlock()
	next := change(append([]*func(messages.Change){}, *r.watchers.Load()...))
	r.watchers.Store(&next)
}

func (r *Registry) emit(changes []messages.Change) {
	for _, c := range changes {
		for _, fn := range *r.watchers.Load() {
			(*fn)(c)
		}
	}
}

// place is a document and the application it lives in ("" for none).
type place struct {
	kind        messages.Kind
	id          string
	application string
}

// write makes a change at a place (the first of writes is the document itself) and comes back when this node knows it.
func (r *Registry) write(ctx context.Context, at place, writes []messages.Write) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if at.application != "" {
		leave, err := r.enter(ctx, at.application)
		if err != nil {
			return err
		}
		defer leave()
	}
	if err := r.put(ctx, writes); err != nil {
		return fmt.Errorf("write %s %s: %w", at.kind, at.id, err)
	}
	if r.follow != nil && at.application != "" && writes[0].Expect && writes[0].Revision == 0 {
		return r.confirm(ctx, at, writes)
	}
	return nil
}

// put commits, then brings memory and watchers up to date. Once begun it does not end because the caller goes away: memory would no longer agree
// with the store, and a deleted key would still open doors.
func (r *Registry) put(ctx context.Context, writes []messages.Write) error {
	ctx = context.WithoutCancel(ctx)
	if r.follow != nil {
		if err := r.commit(ctx, writes); err != nil {
			return err
		}
		return r.follow.settle(ctx)
	}
	defer r.lock(writes)()
	if err := r.commit(ctx, writes); err != nil {
		return err
	}
	docs := make([]messages.Document, len(writes))
	for i, w := range writes {
		docs[i] = messages.Document{Kind: w.Kind, ID: w.ID, Value: w.Value}
	}
	r.emit(r.apply(docs...))
	return nil
}

// lock takes the stripes of all documents that are written, in the order of the stripes, so that two writers can't wait for each other.
func (r *Registry) lock(writes []messages.Write) (unlock func()) {
	var wanted [len(r.stripes)]bool
	for _, w := range writes {
		wanted[maphash.String(r.seed, string(w.Kind)+"\x00"+w.ID)%uint64(len(r.stripes))] = true
	}
	for i := range wanted {
		if wanted[i] {
			r.stripes[i].Lock()
		}
	}
	return func() {
		for i := range wanted {
			if wanted[i] {
				r.stripes[i].Unlock()
			}
		}
	}
}

// commit writes. It can fail although everything was written, when only the answer got lost. Memory would then lack what is in the store, so the
// store is asked. All writes are done or none, hence the first one tells. What is written even later than that comes to memory by following.
func (r *Registry) commit(ctx context.Context, writes []messages.Write) error {
	err := r.bounded(ctx, func(ctx context.Context) error { return r.store.WriteDocuments(ctx, writes) })
	if err == nil || errors.Is(err, messages.ErrConflict) {
		return err
	}
	var doc messages.Document
	readErr := r.bounded(ctx, func(ctx context.Context) (err error) {
		doc, err = r.store.GetDocument(ctx, writes[0].Kind, writes[0].ID)
		return err
	})
	switch {
	case errors.Is(readErr, messages.ErrNotFound):
		if writes[0].Value == nil {
			return nil
		}
	case readErr == nil && writes[0].Value != nil && bytes.Equal(doc.Value, writes[0].Value):
		return nil
	}
	return err
}

// bounded limits a call of a shared store, which may be far away. A store of this node's own always answers, and must: there is no follower to tell
// what became of a write.
func (r *Registry) bounded(ctx context.Context, call func(context.Context) error) error {
	if r.follow == nil {
		return call(ctx)
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return call(ctx)
}

// enter keeps the application from being deleted by this node until leave is called, so that nothing is left behind in a deleted one. What other
// nodes do meanwhile is found out by confirm.
func (r *Registry) enter(ctx context.Context, application string) (leave func(), err error) {
	if err := r.need(ctx, application); err != nil {
		return nil, err
	}
	for {
		a, writable := r.index.application(application)
		switch {
		case a == nil:
			return nil, applicationNotFound(application)
		case !writable:
			return nil, applicationDeleting(application)
		}
		a.RLock()
		if now, writable := r.index.application(application); now == a && writable {
			return a.RUnlock, nil
		}
		a.RUnlock() // deleted while we waited, and perhaps made again
	}
}

func (r *Registry) now() *time.Time {
	t := r.clock().UTC().Round(0)
	return &t
}

func (r *Registry) random(b []byte) error {
	r.randMutex.Lock()
	defer r.randMutex.Unlock()
	if _, err := io.ReadFull(r.rand, b); err != nil {
		return fmt.Errorf("read random bytes: %w", err)
	}
	return nil
}

// retry repeats an attempt while someone else was faster. Each round at least one of the competitors succeeds.
func retry[T any](ctx context.Context, attempt func() (T, error)) (T, error) {
	for n := 1; ; n++ {
		v, err := attempt()
		if err == nil || n == 100 || ctx.Err() != nil || !errors.Is(err, messages.ErrConflict) {
			return v, err
		}
	}
}
