package actors

import (
	"container/heap"
	"errors"
	"slices"
	"time"

	"lorikeet/messages"
)

// integrationOutcome says what a delivery came to.
type integrationOutcome int

const (
	outcomeDelivered integrationOutcome = iota
	outcomeRetry
	outcomeDead
)

// done settles a delivery of one event. random is in [0,1).
func (q *integrationQueue) done(e messages.LogEntry, now time.Time, err error, random float64) integrationOutcome {
	return q.settle([]messages.LogEntry{e}, now, err, random)
}

// settle settles a delivery: all of its events or none.
func (q *integrationQueue) settle(entries []messages.LogEntry, now time.Time, err error, random float64) integrationOutcome {
	probe := q.probing
	lanes := q.end(entries)
	if lanes == nil {
		return outcomeRetry
	}
	if err == nil {
		q.failures, q.lastSuccess = 0, now
		q.close()
		for _, l := range lanes {
			q.pop(l, l.under)
		}
		return outcomeDelivered
	}
	if q.believes(err, lanes) {
		q.close() // the other side answers; it is something in this request that it refuses
		if len(entries) > 1 {
			q.split(lanes)
			return outcomeRetry
		}
		return q.refuse(lanes[0], now, err, random)
	}
	q.failures++
	for _, l := range lanes {
		if l.tries++; q.givesUp(l, l.bodies[0], now) {
			if len(entries) == 1 {
				q.pop(l, 1)
				return outcomeDead
			}
			l.single = max(l.single, 1)
		}
		q.postpone(l, now, err, random)
	}
	q.fail(now, err, random, probe)
	return outcomeRetry
}

// believes says whether it is these events that the other side refuses. What may be a refusal of everything is taken for an outage until others pass.
func (q *integrationQueue) believes(err error, lanes []*integrationLane) bool {
	if !errors.Is(err, messages.ErrPermanent) {
		return false
	}
	var all interface{ OfEndpoint() bool }
	if !errors.As(err, &all) || !all.OfEndpoint() {
		return true
	}
	return !slices.ContainsFunc(lanes, func(l *integrationLane) bool { return l.failingSince.IsZero() || !q.lastSuccess.After(l.failingSince) })
}

// refuse settles an event that the other side does not want.
func (q *integrationQueue) refuse(l *integrationLane, now time.Time, err error, random float64) integrationOutcome {
	l.tries++
	if l.tries >= integrationTries(err) {
		q.pop(l, 1)
		return outcomeDead
	}
	q.postpone(l, now, err, random)
	l.refused = true
	return outcomeRetry
}

// givesUp says whether an event is old and has failed often while others got through.
func (q *integrationQueue) givesUp(l *integrationLane, e messages.LogEntry, now time.Time) bool {
	return !q.open && l.tries >= q.limits.GiveUpTries && now.Sub(e.Time) > q.limits.GiveUpAge && q.lastSuccess.After(l.failingSince) && !l.failingSince.IsZero()
}

// fail counts a failure against the circuit. One that was under way when the circuit opened changes nothing.
func (q *integrationQueue) fail(now time.Time, err error, random float64, probe bool) {
	switch {
	case q.open && !probe:
		return
	case q.open:
		q.opens++
	case q.failures >= q.limits.OpenAfter:
		q.open, q.opens = true, 0
		for _, l := range q.ready {
			q.release(l)
		}
	default:
		return
	}
	// Half of the wait is fixed, so that a dead endpoint sees few probes.
	wait := integrationBackoff(q.limits.BackoffBase, q.limits.OutageCap, q.opens, (1+random)/2)
	q.openUntil = now.Add(max(wait, q.retryAfter(err)))
}

// close ends an outage: every event that failed for it is tried again at once.
func (q *integrationQueue) close() {
	if !q.open {
		return
	}
	q.open, q.opens, q.failures = false, 0, 0
	var stay integrationLaneHeap
	for len(q.wait) > 0 {
		l := heap.Pop(&q.wait).(*integrationLane)
		if l.refused {
			heap.Push(&stay, l)
			continue
		}
		q.ready = append(q.ready, l)
	}
	q.wait = stay
}

// pop removes the first n events of a lane.
func (q *integrationQueue) pop(l *integrationLane, n int) {
	for i := range n {
		q.bytes -= integrationEntrySize(l.bodies[i])
		l.bodies[i] = messages.LogEntry{}
	}
	q.bodies -= n
	l.bodies = l.bodies[n:]
	l.single = max(l.single-n, 0)
	l.forgive()
	if len(l.bodies) == 0 && len(l.held) == 0 {
		q.forget(l)
		return
	}
	q.ready = append(q.ready, l)
}

// postpone lets a lane wait, without its events in memory.
func (q *integrationQueue) postpone(l *integrationLane, now time.Time, err error, random float64) {
	if l.failingSince.IsZero() {
		l.failingSince = now
	}
	limit := q.limits.OutageCap
	if q.lastSuccess.After(l.failingSince) {
		limit = q.limits.BackoffCap
	}
	wait := integrationBackoff(q.limits.BackoffBase, limit, l.tries-1, random)
	l.notBefore, l.refused = now.Add(max(wait, q.retryAfter(err))), false
	q.release(l)
	heap.Push(&q.wait, l)
}

// release keeps of the events of a lane only their places in the log.
func (q *integrationQueue) release(l *integrationLane) {
	if len(l.bodies) == 0 {
		return
	}
	held := make([]uint64, 0, len(l.bodies)+len(l.held))
	for _, e := range l.bodies {
		held = append(held, e.Seq)
		q.bytes -= integrationEntrySize(e)
	}
	q.bodies -= len(l.bodies)
	q.held += len(l.bodies)
	l.bodies, l.held = nil, append(held, l.held...)
	if l.again { // they may have come in any order
		slices.Sort(l.held)
	}
}

func (q *integrationQueue) retryAfter(err error) time.Duration {
	var r interface{ RetryAfter() time.Duration }
	if !errors.As(err, &r) {
		return 0
	}
	return min(max(r.RetryAfter(), 0), q.limits.MaxRetryAfter)
}

// integrationTries is how often an event that is refused for good is tried before it becomes a dead letter.
func integrationTries(err error) int {
	var t interface{ Tries() int }
	if errors.As(err, &t) {
		return max(t.Tries(), 1)
	}
	return 1
}

// integrationBackoff is random·min(limit, base·2ⁿ).
func integrationBackoff(base, limit time.Duration, n int, random float64) time.Duration {
	d := limit
	if n < 30 && base<<n < limit {
		d = base << n
	}
	return time.Duration(random * float64(d))
}
