package registry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"lorikeet/messages"
)

// sharedStore is a Store that other nodes write too.
type sharedStore interface {
	Store
	// FollowDocuments calls fn for every document there is, then for every change that any node makes, one call after the other; a version that was
	// soon replaced by a newer one may be left out. Revisions do not fall from call to call, also when a connection was lost in between; a deletion
	// has one of its own. It comes back when ctx ends, or with an error when it can't go on.
	FollowDocuments(ctx context.Context, fn func(doc messages.Document, deleted bool)) error
	// SyncDocuments comes back when fn, of a FollowDocuments under way, was called for every change that was durable before.
	SyncDocuments(ctx context.Context) error
}

const (
	patience   = 10 * time.Second       // how long a shared store is asked again before the caller hears of it
	retryPause = 100 * time.Millisecond // between two tries
)

// follower feeds a registry with the changes of a shared store.
type follower struct {
	store     sharedStore
	registry  *Registry
	onFailure func(error)
	last      messages.Revision // of what was applied; used by observe only
	begun     chan struct{}     // closed with the first document

	alive context.Context // until the follower has ended; its cause says why
	end   context.CancelCauseFunc
	ended chan struct{}

	mutex   sync.Mutex
	busy    bool     // rounds runs
	next    *round   // of SyncDocuments
	notices []notice // what watchers have not heard of
	noticed chan struct{}
}

// round is one SyncDocuments for all who asked before it began.
type round struct {
	done chan struct{}
	err  error
}

// notice is a change, or a mark in their order: closed when watchers have heard of all that was before it.
type notice struct {
	change messages.Change
	mark   chan struct{}
}

func newFollower(store sharedStore, r *Registry, onFailure func(error)) *follower {
	return &follower{store: store, registry: r, onFailure: onFailure, begun: make(chan struct{}), ended: make(chan struct{}), noticed: make(chan struct{}, 1)}
}

// start follows in the background and comes back when everything that is there has been applied.
func (f *follower) start(ctx context.Context) error {
	f.alive, f.end = context.WithCancelCause(context.WithoutCancel(ctx))
	var both sync.WaitGroup
	both.Go(f.tell)
	both.Go(func() {
		if err := f.store.FollowDocuments(f.alive, f.observe); f.alive.Err() == nil {
			f.fail(err)
		}
	})
	go func() {
		both.Wait()
		close(f.ended)
	}()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(f.alive, cancel)()
	select { // the pepper at least is there
	case <-f.begun:
	case <-ctx.Done():
		return errors.Join(ctx.Err(), context.Cause(f.alive))
	}
	if err := f.store.SyncDocuments(ctx); err != nil {
		return errors.Join(err, context.Cause(f.alive))
	}
	return f.told(ctx) // who watches from now on does not hear of the past
}

func (f *follower) fail(err error) {
	if err == nil {
		err = errors.New("the store has ended it")
	}
	err = fmt.Errorf("follow the documents of other nodes: %w", err)
	f.end(err)
	f.registry.log.LogAttrs(context.Background(), slog.LevelError, "changes of other nodes are not heard of any more: restart this node", slog.Any("err", err))
	if f.onFailure != nil {
		f.onFailure(err)
	}
}

func (f *follower) stop() {
	f.end(errors.New("the registry is closed"))
	<-f.ended
}

// observe lets nothing older replace something newer, should the store repeat itself after a lost connection.
func (f *follower) observe(doc messages.Document, deleted bool) {
	if doc.Revision < f.last {
		return
	}
	if f.last == 0 {
		close(f.begun)
	}
	f.last = doc.Revision
	switch {
	case deleted:
		doc.Value = nil
	case doc.Value == nil:
		doc.Value = []byte{}
	}
	for _, c := range f.registry.apply(doc) {
		f.note(notice{change: c})
	}
}

func (f *follower) note(n notice) {
	f.mutex.Lock()
	f.notices = append(f.notices, n)
	f.mutex.Unlock()
	select {
	case f.noticed <- struct{}{}:
	default:
	}
}

// tell calls the watchers. It is apart from observe, because a watcher may ask the registry something for which that waits for new documents.
func (f *follower) tell() {
	for {
		select {
		case <-f.alive.Done():
			return
		case <-f.noticed:
		}
		f.mutex.Lock()
		notices := f.notices
		f.notices = nil
		f.mutex.Unlock()
		for _, n := range notices {
			if n.mark != nil {
				close(n.mark)
				continue
			}
			f.registry.emit([]messages.Change{n.change})
		}
	}
}

// told comes back when the watchers have heard of all that is in memory.
func (f *follower) told(ctx context.Context) error {
	mark := make(chan struct{})
	f.note(notice{mark: mark})
	select {
	case <-mark:
		return nil
	case <-f.alive.Done():
		return context.Cause(f.alive)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// settle comes back when every change that was durable before is in memory and the watchers have heard of it. Watchers must not call it.
func (f *follower) settle(ctx context.Context) error {
	if err := f.sync(ctx); err != nil {
		return err
	}
	return f.told(ctx)
}

// sync comes back when every change that was durable before is in memory. Who asks while a round is under way shares the next one.
func (f *follower) sync(ctx context.Context) error {
	f.mutex.Lock()
	if f.next == nil {
		f.next = &round{done: make(chan struct{})}
		if !f.busy {
			f.busy = true
			go f.rounds()
		}
	}
	mine := f.next
	f.mutex.Unlock()
	select {
	case <-mine.done:
		return mine.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (f *follower) rounds() {
	for {
		f.mutex.Lock()
		now := f.next
		f.next = nil
		f.busy = now != nil
		f.mutex.Unlock()
		if now == nil {
			return
		}
		now.err = f.insist(f.store.SyncDocuments)
		close(now.done)
	}
}

// insist repeats a call that has failed, within limits: what it is for is durable already, and its caller should not hear otherwise.
func (f *follower) insist(call func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(f.alive, patience)
	defer cancel()
	for {
		err := call(ctx)
		if err == nil || errors.Is(err, messages.ErrNotFound) {
			return err
		}
		select {
		case <-ctx.Done():
			if cause := context.Cause(f.alive); cause != nil {
				err = cause
			}
			return messages.Errorf(messages.CodeUnavailable, "registry_behind",
				"this node does not hear from the store; a change may be done, so read it before you repeat it: %w", err)
		case <-time.After(retryPause):
		}
	}
}
