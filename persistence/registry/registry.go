// Package registry keeps what people configure: applications, devices, links, webhooks, pub/sub integrations, API keys and
// radio gateways. Each is one JSON document of its v3 entity in the store. What the hot paths ask for (the EUI pairs of
// devices, the EUIs of radio gateways, API keys, application ids) is held in memory too, about 100 bytes a device.
//
// A write is durable before it is in memory, before watchers hear of it and before its caller is answered. Writes of one
// document come to memory and to the watchers in the order of the store. What a device does (session, counters, nonces) is
// not here: the device actor owns it.
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
}

// Registry of one server. All methods may be called at once. Entities given out are the caller's own copies.
type Registry struct {
	store   Store
	clock   func() time.Time
	log     *slog.Logger
	maxSeen int
	pepper  []byte
	index   index

	randMutex sync.Mutex
	rand      io.Reader

	seed    maphash.Seed
	stripes [64]sync.Mutex // by document: from before its write until memory and watchers have it

	watchMutex sync.Mutex // of writes to watchers
	watchers   atomic.Pointer[[]*func(messages.Change)]
}

// Open reads what is held in memory. A damaged document is logged and left out: it must not keep the server from starting.
func Open(ctx context.Context, store Store, cfg Config) (*Registry, error) {
	r := &Registry{store: store, clock: cfg.Clock, log: cfg.Log, maxSeen: cfg.MaxSeenGateways, rand: cfg.Rand, index: newIndex(), seed: maphash.MakeSeed()}
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
	if err := r.loadIndex(ctx); err != nil {
		return nil, fmt.Errorf("open registry: %w", err)
	}
	return r, nil
}

// Watch calls fn after each write, in the order of the writes of one document. fn must not block and must not write to the
// registry; it may still be called once while cancel runs.
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

func (r *Registry) emit(changes ...messages.Change) {
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

// write commits, then brings memory (apply, which may be nil) and the watchers up to date. Once begun it does not end because
// the caller goes away: memory would no longer agree with the store, and a deleted key would still open doors.
func (r *Registry) write(ctx context.Context, at place, writes []messages.Write, apply func()) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if at.application != "" {
		leave, err := r.enter(at.application)
		if err != nil {
			return err
		}
		defer leave()
	}
	lock := &r.stripes[maphash.String(r.seed, string(at.kind)+at.id)%uint64(len(r.stripes))]
	lock.Lock()
	defer lock.Unlock()
	if err := r.commit(ctx, writes); err != nil {
		return fmt.Errorf("write %s %s: %w", at.kind, at.id, err)
	}
	r.index.change(apply)
	r.emit(messages.Change{Kind: at.kind, ID: at.id, Deleted: writes[0].Value == nil})
	return nil
}

// commit writes. It can fail although everything was written, when only the answer got lost. Memory would then lack what is in the store, so the
// store is asked. All writes are done or none, hence the first one tells.
func (r *Registry) commit(ctx context.Context, writes []messages.Write) error {
	ctx = context.WithoutCancel(ctx)
	err := r.store.WriteDocuments(ctx, writes)
	if err == nil || errors.Is(err, messages.ErrConflict) {
		return err
	}
	doc, readErr := r.store.GetDocument(ctx, writes[0].Kind, writes[0].ID)
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

// enter keeps the application from being deleted until leave is called, so that nothing is left behind in a deleted one.
func (r *Registry) enter(application string) (leave func(), err error) {
	if a := r.index.application(application); a != nil {
		a.RLock()
		if !a.deleted {
			return a.RUnlock, nil
		}
		a.RUnlock()
	}
	return nil, applicationNotFound(application)
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
