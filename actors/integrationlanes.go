package actors

import (
	"slices"
	"time"

	"lorikeet/messages"
)

// takeBatch gives a request that is full, or whose first event has waited for long enough. Otherwise it says when that will be.
func (q *integrationQueue) takeBatch(now time.Time) integrationStep {
	type group struct {
		lanes  []*integrationLane
		events int
		due    time.Time
	}
	var groups []*group
	byKey := map[string]*group{}
	for _, l := range q.ready {
		if len(l.bodies) == 0 {
			if q.bodies < q.limits.WindowEntries {
				return integrationStep{Fetch: l}
			}
			continue
		}
		if l.again || l.single > 0 {
			return q.start([]*integrationLane{l}, 1)
		}
		if l.since.IsZero() {
			l.since = now
		}
		key := q.keyOf(l)
		g := byKey[key]
		if g == nil {
			g = &group{due: l.since.Add(q.limits.BatchWait)}
			byKey[key] = g
			groups = append(groups, g)
		}
		g.lanes = append(g.lanes, l)
		if due := l.since.Add(q.limits.BatchWait); due.Before(g.due) {
			g.due = due
		}
		if g.events += len(l.bodies); g.events >= q.limits.BatchEvents {
			return q.start(g.lanes, q.limits.BatchEvents)
		}
	}
	if len(groups) == 0 {
		return integrationStep{Fetch: q.ready[0]}
	}
	first := groups[0]
	for _, g := range groups {
		if g.due.Before(first.due) {
			first = g
		}
	}
	if first.due.After(now) {
		return integrationStep{Wake: first.due}
	}
	return q.start(first.lanes, q.limits.BatchEvents)
}

// keyOf is the key of the first event of a lane.
func (q *integrationQueue) keyOf(l *integrationLane) string {
	if seq := l.bodies[0].Seq; l.keySeq != seq {
		l.keySeq, l.key = seq, q.key(l.bodies[0])
	}
	return l.key
}

// split lets the events of a refused request go one by one, so that only the one that is to blame is refused again.
func (q *integrationQueue) split(lanes []*integrationLane) {
	for _, l := range lanes {
		l.single = max(l.single, l.under)
	}
	q.ready = append(slices.Clone(lanes), q.ready...)
}

// redrive takes in a dead letter by its place in the log. It has a lane beside that of its device: what came later was delivered already, and goes on
// being delivered whatever becomes of this one. But only one of both has a delivery under way at a time. false: it is under way already.
func (q *integrationQueue) redrive(device messages.DeviceID, seq uint64) bool {
	l := q.again[device]
	if l == nil {
		l = &integrationLane{device: device, again: true}
		q.again[device] = l
		q.ready = append(q.ready, l)
	}
	at, found := slices.BinarySearch(l.held, seq)
	if found || slices.ContainsFunc(l.bodies, func(e messages.LogEntry) bool { return e.Seq == seq }) {
		return false
	}
	l.held = slices.Insert(l.held, at, seq)
	q.held++
	return true
}

// redriving is the number of dead letters that are under way again.
func (q *integrationQueue) redriving() (n int) {
	for _, l := range q.again {
		n += len(l.bodies) + len(l.held)
	}
	return n
}

// twin is the other lane of the device, if there is one.
func (q *integrationQueue) twin(l *integrationLane) *integrationLane {
	if l.again {
		return q.lanes[l.device]
	}
	return q.again[l.device]
}

// park takes lanes out of ready whose device has a delivery under way.
func (q *integrationQueue) park() {
	if len(q.again) == 0 {
		return
	}
	q.ready = slices.DeleteFunc(q.ready, func(l *integrationLane) bool {
		t := q.twin(l)
		l.parked = t != nil && t.busy
		return l.parked
	})
}

// unpark puts back the lane that waited for l.
func (q *integrationQueue) unpark(l *integrationLane) {
	if t := q.twin(l); t != nil && t.parked {
		t.parked = false
		q.ready = append(q.ready, t)
	}
}

// attempt says which try of an event is under way, and whether it was a dead letter.
func (q *integrationQueue) attempt(e messages.LogEntry) (try int, again bool) {
	l := q.busyLane(e.Device)
	if l == nil {
		return 0, false
	}
	if l.bodies[0].Seq != e.Seq { // behind the first one in a request
		return 1, l.again
	}
	return l.tries + 1, l.again
}

// nextTry is when an event that failed is tried again at the earliest; zero: at once.
func (q *integrationQueue) nextTry(e messages.LogEntry, again bool) time.Time {
	l := q.lanes[e.Device]
	if again {
		l = q.again[e.Device]
	}
	switch {
	case l == nil:
		return time.Time{}
	case q.open && q.openUntil.After(l.notBefore):
		return q.openUntil
	}
	return l.notBefore
}

// wakes is when something that failed is tried next; zero if nothing has failed.
func (q *integrationQueue) wakes() time.Time {
	switch {
	case q.open:
		return q.openUntil
	case len(q.wait) > 0:
		return q.wait[0].notBefore
	}
	return time.Time{}
}
