package badger

import (
	"fmt"
	"time"

	bdb "github.com/dgraph-io/badger/v4"

	"lorikeet/messages"
)

const (
	maxBatch   = 1000    // requests in one go
	txnBytes   = 3 << 20 // a transaction is not begun to be filled beyond this; one request more still fits into Badger's limit
	txnEntries = 20_000
)

// operation is a write as the committer sees it.
type operation interface {
	// size is an upper estimate of what apply writes.
	size() (entries, bytes int)
	// apply checks the operation against the batch and adds it, or gives an error and adds nothing.
	apply(*batch) error
	// frees says that it makes room, and is done even if the disk is nearly full.
	frees() bool
}

// minInterval bounds the syncs a second under load: a sync costs the processor about a millisecond whatever it writes, so more requests should share one.
// The sign of load is that a request came while the batch before was on its way; one that comes alone is not held back.
const minInterval = 5 * time.Millisecond

func (s *Store) runCommitter() {
	defer close(s.done)
	requests := make([]*request, 0, maxBatch)
	var last time.Time // start of the batch before
	for {
		requests = s.gather(requests[:0], nil)
		if early := minInterval - time.Since(last); len(requests) > 0 && early > 0 {
			requests = s.gather(requests, time.After(early))
		}
		if len(requests) == 0 {
			select {
			case r := <-s.queue:
				requests = append(requests, r)
			case <-s.stop:
				// No call is under way any more; what is still queued was given up by its caller.
				return
			}
			requests = s.gather(requests, nil)
		}
		last = time.Now()
		s.process(requests)
	}
}

// gather adds what is in the queue, and with a timer also what comes until then.
func (s *Store) gather(requests []*request, until <-chan time.Time) []*request {
	for len(requests) < maxBatch {
		select {
		case r := <-s.queue:
			requests = append(requests, r)
			continue
		default:
		}
		if until == nil {
			break
		}
		select {
		case r := <-s.queue:
			requests = append(requests, r)
		case <-until:
			return requests
		}
	}
	return requests
}

// process makes a batch of requests durable and wakes their callers.
func (s *Store) process(requests []*request) {
	s.commitMu.Lock()
	defer s.commitMu.Unlock()
	b := &batch{s: s, state: s.state, numbers: make(map[string]uint64), apps: make(map[string]*batchLog), cursors: make(map[string]*uint64)}
	err := b.fill(requests)
	if err == nil {
		err = b.flush()
	}
	if b.txn != nil {
		b.txn.Discard()
	}
	if err == nil && b.dirty {
		err = b.publish()
	}
	if err != nil {
		s.fail(err)
	}
	s.metrics.observeBatch(b, len(requests))
	for _, r := range requests {
		if e := s.failure.Load(); e != nil && r.err == nil {
			r.err = e
		}
		s.metrics.observe(r)
		close(r.done)
	}
}

// batch is the state as it will be when everything that was applied to it is durable.
type batch struct {
	s       *Store
	state   state
	numbers map[string]uint64 // of tracked records that change; 0: removed
	apps    map[string]*batchLog
	cursors map[string]*uint64 // nil: removed

	txn            *bdb.Txn
	entries, bytes int // in txn, by estimate
	err            error
	dirty          bool // something was committed

	appended, written int // for the metrics
}

// batchLog is the change of one application's log.
type batchLog struct {
	a       *appLog
	meta    logMeta
	entries []messages.LogEntry
	dirty   bool // meta is not in a transaction yet
}

func (b *batch) fill(requests []*request) error {
	for _, r := range requests {
		if e := b.s.failure.Load(); e != nil {
			r.err = e
			continue
		}
		if err := r.ctx.Err(); err != nil {
			r.err = fmt.Errorf("store: too busy, nothing was written: %w", err)
			continue
		}
		entries, bytes := r.op.size()
		if b.bytes > 0 && (b.entries+entries > txnEntries || b.bytes+bytes > txnBytes) {
			if err := b.flush(); err != nil {
				return err
			}
		}
		if b.txn == nil {
			b.txn = b.s.db.NewTransaction(true)
		}
		b.entries += entries
		b.bytes += bytes
		if r.err = r.op.apply(b); b.err != nil {
			return b.err
		}
	}
	return nil
}

// next numbers a write.
func (b *batch) next() uint64 {
	b.state.writes++
	return b.state.writes
}

// number of a tracked record, in the batch's view.
func (b *batch) number(key []byte) uint64 {
	if n, ok := b.numbers[string(key)]; ok {
		return n
	}
	return b.s.tracked.number(key)
}

// set writes a record, which is finished here, under a number.
func (b *batch) set(key, record []byte, number uint64) {
	finishRecord(key, record, number)
	b.written += len(key) + len(record)
	if err := b.txn.Set(key, record); err != nil && b.err == nil {
		b.err = err
	}
}

func (b *batch) remove(key []byte) {
	if err := b.txn.Delete(key); err != nil && b.err == nil {
		b.err = err
	}
}

// setTracked writes a tracked record. A nil record removes it.
func (b *batch) setTracked(key, record []byte, number uint64) {
	old := b.number(key)
	if record == nil {
		number = 0
		b.remove(key)
	} else {
		b.set(key, record, number)
	}
	b.state.digest += digestOf(key, number) - digestOf(key, old)
	b.numbers[string(key)] = number
}

func (b *batch) log(app string) *batchLog {
	l := b.apps[app]
	if l == nil {
		a := b.s.appLog(app, true)
		l = &batchLog{a: a, meta: a.view()}
		b.apps[app] = l
	}
	return l
}

func (b *batch) setCursor(name string, seq *uint64) {
	key := nameKey(familyCursor, name)
	if seq == nil {
		b.setTracked(key, nil, 0)
	} else {
		b.setTracked(key, encodeCursor(*seq), b.next())
	}
	b.cursors[name] = seq
}

// flush commits and syncs the transaction, if it has anything in it.
func (b *batch) flush() error {
	if b.txn == nil {
		return nil
	}
	if b.state.writes == b.s.state.writes {
		return nil // nothing but refusals
	}
	for app, l := range b.apps {
		if l.dirty {
			b.setTracked(nameKey(familyApp, app), encodeMeta(l.meta), b.state.writes)
			l.dirty = false
		}
	}
	b.set(stateKey, encodeState(b.state), b.state.writes)
	if b.err != nil {
		return b.err
	}
	start := time.Now()
	if err := b.s.cfg.commit(b.txn); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	b.s.metrics.sync.Observe(time.Since(start).Seconds())
	b.txn, b.entries, b.bytes, b.dirty = nil, 0, 0, true
	return nil
}

// publish shows to readers what is durable now.
func (b *batch) publish() error {
	s := b.s
	s.state = b.state
	for key, number := range b.numbers {
		s.tracked.set([]byte(key), number)
	}
	s.curMu.Lock()
	for name, seq := range b.cursors {
		if seq == nil {
			delete(s.cursors, name)
		} else {
			s.cursors[name] = *seq
		}
	}
	s.curMu.Unlock()
	for _, l := range b.apps {
		if len(l.entries) > 0 || l.meta != l.a.view() {
			s.ringSize += l.a.publish(l.meta, l.entries)
		}
	}
	s.boundRings()
	return s.mark.write(s.state.writes)
}
