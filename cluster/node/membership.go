package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Reasons for OnLost.
var (
	ErrRemoved     = errors.New("this node was removed from the cluster: it did not renew its membership in time, and others have taken over")
	ErrUnreachable = errors.New("this node could not reach JetStream for too long")
)

// membership keeps this node's record renewed and follows those of the others. The decisions are in view; this is the shell.
type membership struct {
	kv      jetstream.KeyValue
	id      string
	lease   time.Duration
	limit   time.Duration
	now     func() time.Duration // monotonic
	log     *slog.Logger
	changed func()      // the list of members, or this node's fitness, is another
	onLost  func(error) // called once, in its own goroutine

	mu       sync.Mutex
	view     *view
	removing map[string]bool
	watched  time.Duration // when the watch was begun

	renewed  atomic.Int64  // instant at which the newest successful renewal was begun
	sighted  atomic.Int64  // instant at which an own renewal was last seen
	revision atomic.Uint64 // of the own record
	own      record        // of the renew loop
	lost     atomic.Bool

	states  chan stateChange
	rewatch chan struct{}
	stop    context.CancelFunc
	wg      sync.WaitGroup
}

// stateChange asks the renew loop to write another state.
type stateChange struct {
	state State
	done  chan uint64 // gets the revision it was written with
}

// join waits until there is room, and writes the own record in state joining.
func (m *membership) join(ctx context.Context) error {
	if err := m.waitForRoom(ctx); err != nil {
		return err
	}
	start := m.now()
	revision, err := m.create(ctx)
	if err != nil {
		return fmt.Errorf("join the cluster: %w", err)
	}
	m.revision.Store(revision)
	m.renewed.Store(int64(start))
	m.sighted.Store(int64(start))
	v := newView(m.id, m.lease)
	for v.members[m.id] == nil { // a replica may be behind; once it shows ours, it shows all that are older
		if err := errors.Join(m.readInto(ctx, v), pause(ctx, m.lease/32)); err != nil {
			return errors.Join(err, m.kv.Delete(ctx, m.id))
		}
	}
	if id := v.rival(m.own, revision); id != "" {
		return errors.Join(inadmissible(m.own, v.members[id].record), m.kv.Delete(ctx, m.id))
	}
	m.own.Renewed = true
	m.view = newView(m.id, m.lease)
	return nil
}

// create writes the own record for the first time.
func (m *membership) create(ctx context.Context) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, tryPatience)
	defer cancel()
	revision, err := m.kv.Create(ctx, m.id, encodeRecord(m.own))
	if !errors.Is(err, jetstream.ErrKeyExists) {
		return revision, err
	}
	e, err := m.kv.Get(ctx, m.id) // an earlier try was written, and its answer got lost
	if err != nil {
		return 0, err
	}
	return e.Revision(), nil
}

// waitForRoom follows the bucket until nothing keeps this node from joining: who died is silent within a lease.
func (m *membership) waitForRoom(ctx context.Context) error {
	v := newView(m.id, m.lease)
	began := m.now()
	for {
		if err := m.readInto(ctx, v); err != nil {
			return fmt.Errorf("read the members of the cluster: %w", err)
		}
		v.sight(m.now())
		hinders := v.hinders(m.own)
		if len(hinders) == 0 {
			return nil
		}
		silent := v.silent(m.now())
		for _, id := range hinders {
			e := v.members[id]
			switch {
			case slices.Contains(silent, id):
				m.remove(ctx, id, *e)
			case m.now()-began > 2*v.longest()+v.longest()/2, e.living && !e.understands(m.own):
				return inadmissible(m.own, e.record)
			}
		}
		if err := pause(ctx, m.lease/8); err != nil {
			return err
		}
	}
}

func (m *membership) readInto(ctx context.Context, v *view) error {
	ctx, cancel := context.WithTimeout(ctx, max(m.lease, 2*time.Second))
	defer cancel()
	return readAll(ctx, m.kv, func(e jetstream.KeyValueEntry) { m.show(v, e) })
}

func (m *membership) show(v *view, e jetstream.KeyValueEntry) bool {
	r, err := decodeRecord(e)
	if err != nil {
		m.log.Warn("record of a cluster member can't be read", "err", err)
		return false
	}
	return v.see(m.now(), e.Key(), e.Revision(), r)
}

// start begins to renew, to watch and to judge.
func (m *membership) start() {
	ctx, cancel := context.WithCancel(context.Background())
	m.stop = cancel
	m.states, m.rewatch, m.removing = make(chan stateChange), make(chan struct{}, 1), map[string]bool{}
	m.wg.Go(func() { m.renewLoop(ctx) })
	m.wg.Go(func() { m.watchLoop(ctx) })
	m.wg.Go(func() { m.judgeLoop(ctx) })
}

// close ends the loops; the record stays, and is removed by the others when the lease has passed.
func (m *membership) close() {
	m.stop()
	m.wg.Wait()
}

// set writes another state and gives the revision it got.
func (m *membership) set(ctx context.Context, s State) (uint64, error) {
	if m.lost.Load() {
		return 0, ErrRemoved
	}
	c := stateChange{state: s, done: make(chan uint64, 1)}
	select {
	case m.states <- c:
	case <-ctx.Done():
		return 0, fmt.Errorf("become %s in the cluster: %w", s, ctx.Err())
	}
	select {
	case revision := <-c.done:
		return revision, nil
	case <-ctx.Done():
		return 0, fmt.Errorf("become %s in the cluster: %w", s, ctx.Err())
	}
}

// renewLoop alone writes the own record.
func (m *membership) renewLoop(ctx context.Context) {
	timer := time.NewTimer(m.lease / 4)
	defer timer.Stop()
	var waiting []stateChange
	failing := false
	for {
		select {
		case <-ctx.Done():
			return
		case c := <-m.states:
			waiting, m.own.State = append(waiting, c), c.state
		case <-timer.C:
		}
		if m.lost.Load() {
			return
		}
		err := m.renew(ctx)
		if err == nil {
			for _, c := range waiting {
				c.done <- m.revision.Load()
			}
			waiting = nil
			timer.Reset(m.lease / 4)
		} else {
			timer.Reset(m.lease / 16)
		}
		if failed := err != nil && ctx.Err() == nil; failed != failing {
			failing = failed
			if failing {
				m.log.Warn("cluster membership can't be renewed", "err", err)
			} else {
				m.log.Info("cluster membership is renewed again")
			}
		}
	}
}

// renew writes the own record over the revision that was written before.
func (m *membership) renew(ctx context.Context) error {
	start := m.now()
	attempt, cancel := context.WithTimeout(ctx, m.lease/2)
	defer cancel()
	revision, err := m.kv.Update(attempt, m.id, encodeRecord(m.own), m.revision.Load())
	if errors.Is(err, jetstream.ErrKeyRevisionMismatch) {
		return m.reread(attempt, err)
	}
	if err != nil {
		return err
	}
	m.revision.Store(revision)
	m.renewed.Store(int64(start))
	return nil
}

// reread finds out whether an earlier renewal with unknown outcome was written after all, or another node has removed us.
func (m *membership) reread(ctx context.Context, mismatch error) error {
	e, err := m.kv.Get(ctx, m.id)
	switch {
	case errors.Is(err, jetstream.ErrKeyNotFound):
		m.lose(ErrRemoved)
		return mismatch
	case err != nil:
		return err
	}
	r, err := decodeRecord(e)
	if err != nil {
		return err
	}
	if r == nil || r.State == StateRemoved {
		m.lose(ErrRemoved)
		return mismatch
	}
	m.revision.Store(max(e.Revision(), m.revision.Load()))
	return errors.New("an earlier renewal had arrived; trying again")
}

func (m *membership) lose(reason error) {
	if !m.lost.Swap(true) {
		m.log.Error("this node must leave the cluster", "err", reason)
		m.changed()
		go m.onLost(reason)
	}
}

// watchLoop keeps a watch open. One that does not bring our own renewals is replaced: that is how a watch ends that the server has forgotten.
func (m *membership) watchLoop(ctx context.Context) {
	for ctx.Err() == nil {
		if err := m.watch(ctx); err != nil && ctx.Err() == nil {
			m.log.Debug("watch of the cluster's members is begun anew", "err", err)
		}
		_ = pause(ctx, m.lease/16) // ends early only with ctx
	}
}

func (m *membership) watch(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	m.mu.Lock()
	m.watched = m.now()
	select {
	case <-m.rewatch: // meant for the one before
	default:
	}
	m.mu.Unlock()
	began, err := m.kv.WatchAll(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = began.Stop() }() // it ends with ctx in any case
	for {
		select {
		case e, ok := <-began.Updates():
			if !ok {
				return errors.New("the watch ended")
			}
			if e == nil {
				continue
			}
			m.mu.Lock()
			changed := m.show(m.view, e)
			removed := m.view.removed()
			m.sighted.Store(int64(max(m.view.ownSeen, time.Duration(m.sighted.Load()))))
			m.mu.Unlock()
			if removed {
				m.lose(ErrRemoved)
			}
			if changed {
				m.changed()
			}
		case <-m.rewatch:
			return errors.New("own renewals did not come back")
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// judgeLoop looks at the clock: who is silent, is our own sight gone, are we fit.
func (m *membership) judgeLoop(ctx context.Context) {
	tick := time.NewTicker(m.lease / 16)
	defer tick.Stop()
	before := fit
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		m.judge(ctx)
		now := m.fitness()
		if now != before {
			before = now
			m.changed()
			if now == suspended {
				m.log.Error("this node is suspended: its cluster membership could not be renewed for a lease")
			}
		}
		if now == hopeless {
			m.lose(ErrUnreachable)
		}
	}
}

func (m *membership) judge(ctx context.Context) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.now()
	m.view.prune(now)
	e := m.view.members[m.id]
	behind := e == nil || e.revision < m.revision.Load()
	if behind && m.view.blindFor(now-max(m.view.ownSeen, m.watched)) {
		select {
		case m.rewatch <- struct{}{}:
		default:
		}
	}
	for _, id := range m.view.silent(now) {
		if !m.removing[id] {
			m.removing[id] = true
			e := *m.view.members[id]
			m.wg.Go(func() {
				m.remove(ctx, id, e)
				m.mu.Lock()
				defer m.mu.Unlock()
				delete(m.removing, id)
			})
		}
	}
}

// remove marks a silent member, unless it renews at this moment. What follows is done when the watch shows it, as by everybody else.
func (m *membership) remove(ctx context.Context, id string, e entry) {
	ctx, cancel := context.WithTimeout(ctx, m.lease/2)
	defer cancel()
	r := e.record
	r.State, r.RemovedBy = StateRemoved, m.own.Name
	if _, err := m.kv.Update(ctx, id, encodeRecord(r), e.revision); err == nil {
		m.log.Warn("node was silent for a lease and is removed from the cluster", "node", r.Name, "address", r.Address)
	} else if !errors.Is(err, jetstream.ErrKeyRevisionMismatch) {
		m.log.Debug("silent node can't be removed from the cluster", "node", r.Name, "err", err)
	}
}

// fitness needs both: who does not see itself does not see either that a shard went to another.
func (m *membership) fitness() fitness {
	return fitnessAt(m.now(), time.Duration(min(m.renewed.Load(), m.sighted.Load())), m.lease, m.limit)
}

// fit says whether this node may handle anything now.
func (m *membership) fit() bool { return !m.lost.Load() && m.fitness() == fit }

// list gives the members that live, and the revision up to which that is true.
func (m *membership) list() ([]Member, uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.view.list(m.now()), m.view.latest
}

// depart deletes the own record. The loops must have ended.
func (m *membership) depart(ctx context.Context) error {
	if err := m.kv.Delete(ctx, m.id, jetstream.LastRevision(m.revision.Load())); err != nil {
		return fmt.Errorf("leave the cluster: %w", err)
	}
	return nil
}

// pause waits for d or the end of ctx.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
