package actors

import (
	"container/heap"
	"slices"
	"time"

	"lorikeet/messages"
)

// integrationLimits are the numbers of the delivery rules.
type integrationLimits struct {
	Concurrency     int           // deliveries at once, one a device
	WindowEntries   int           // events held in memory
	WindowBytes     int           // and their size
	LaneEntries     int           // events of one device held in memory; of the others only the place in the log is known
	HeldEntries     int           // places in the log known but not in memory; at this number reading ahead stops
	BackoffBase     time.Duration // wait after the first failure; doubles, full jitter
	BackoffCap      time.Duration // while other events get through
	OutageCap       time.Duration // while nothing gets through, and for the probes of an open circuit
	MaxRetryAfter   time.Duration // a longer wish of the other side is cut to this
	OpenAfter       int           // failures in a row that open the circuit
	GiveUpAge       time.Duration // an event this old that alone keeps failing becomes a dead letter
	GiveUpTries     int           // and has failed at least this often
	DeliveryTimeout time.Duration
	BatchEvents     int           // events in one request; 1: each goes alone
	BatchWait       time.Duration // of a request that is not full
}

func defaultIntegrationLimits() integrationLimits {
	return integrationLimits{
		Concurrency: 16, WindowEntries: 1000, WindowBytes: 8 << 20, LaneEntries: 64, HeldEntries: 100_000,
		BackoffBase: time.Second, BackoffCap: 15 * time.Minute, OutageCap: 30 * time.Second, MaxRetryAfter: time.Hour,
		OpenAfter: 10, GiveUpAge: 72 * time.Hour, GiveUpTries: 5, DeliveryTimeout: 30 * time.Second, BatchEvents: 1,
	}
}

// integrationQueue decides which event is delivered next and what follows from the outcome. It has no clock, no log and no goroutine:
// the time and a random number in [0,1) come in with each call.
//
// Each device has a lane, which is strictly first in, first out. A lane is ready, busy (its head is being delivered) or waiting
// (its head failed). A waiting lane keeps no event in memory, only the places in the log, so that devices that fail do not use up the
// window that the others need. Dead letters that are driven again have lanes of their own (see redrive).
type integrationQueue struct {
	limits integrationLimits
	key    func(messages.LogEntry) string // events with the same one may share a request
	read   uint64                         // everything up to here was taken in
	lanes  map[messages.DeviceID]*integrationLane
	again  map[messages.DeviceID]*integrationLane // of dead letters
	ready  []*integrationLane                     // oldest first
	wait   integrationLaneHeap
	busy   int // deliveries under way

	bodies, bytes, held int // in memory, their size, known by place only

	failures    int // in a row
	open        bool
	probing     bool
	opens       int // probes that failed since the circuit opened
	openUntil   time.Time
	lastSuccess time.Time
}

type integrationLane struct {
	device       messages.DeviceID
	bodies       []messages.LogEntry // the first events of the lane
	held         []uint64            // places of those after them
	busy         bool
	tries        int // of the head
	failingSince time.Time
	notBefore    time.Time
	refused      bool // the last failure was permanent: the end of an outage does not shorten the wait

	again  bool      // of dead letters: the place in the log does not depend on it
	parked bool      // waits for the other lane of the device, which is busy
	under  int       // events in the delivery under way
	single int       // so many events go alone, since a request with them and others was refused
	since  time.Time // it stands in ready, if requests are to be filled
	keySeq uint64    // event that key is of
	key    string
}

// integrationStep is what to do now: deliver Entries (of which Entry is the first) at once, or fetch the events of Fetch from the log, or (neither) wait
// until Wake, if it is set.
type integrationStep struct {
	Entry   *messages.LogEntry
	Entries []messages.LogEntry
	Fetch   *integrationLane
	Wake    time.Time
}

func newIntegrationQueue(limits integrationLimits, cursor uint64) *integrationQueue {
	return &integrationQueue{
		limits: limits, read: cursor, lanes: map[messages.DeviceID]*integrationLane{}, again: map[messages.DeviceID]*integrationLane{},
		key: func(messages.LogEntry) string { return "" },
	}
}

// room says how many events may be read ahead now.
func (q *integrationQueue) room() int {
	if q.open || q.bytes >= q.limits.WindowBytes || q.held >= q.limits.HeldEntries {
		return 0
	}
	window, _ := q.window()
	return max(0, window-q.bodies)
}

// cautiousLane is how many events of one device are read ahead for another side that takes nothing.
const cautiousLane = 4

// window says how many events may be in memory, and how many of one device. While nothing gets through, that is no more than the deliveries under way
// need: there may be a thousand integrations, and all of them may be without an answer at once.
func (q *integrationQueue) window() (all, lane int) {
	if q.failures == 0 && !q.lastSuccess.IsZero() {
		return q.limits.WindowEntries, q.limits.LaneEntries
	}
	lane = min(max(cautiousLane, q.limits.BatchEvents), q.limits.LaneEntries)
	return min(lane*q.limits.Concurrency, q.limits.WindowEntries), lane
}

// add takes the next event of the log. A gap before it (the log was trimmed) is simply passed.
func (q *integrationQueue) add(e messages.LogEntry, wanted bool) {
	if e.Seq <= q.read {
		return
	}
	q.read = e.Seq
	if !wanted {
		return
	}
	l := q.lanes[e.Device]
	if l == nil {
		l = &integrationLane{device: e.Device}
		q.lanes[e.Device] = l
		q.ready = append(q.ready, l)
	}
	if _, limit := q.window(); l.tries > 0 || len(l.held) > 0 || len(l.bodies) >= limit {
		l.held = append(l.held, e.Seq)
		q.held++
		return
	}
	l.bodies = append(l.bodies, e)
	q.bodies++
	q.bytes += integrationEntrySize(e)
}

// integrationEntrySize is roughly what an event costs in memory.
func integrationEntrySize(e messages.LogEntry) int { return len(e.JSON) + 256 }

// next gives the next thing to do. A delivery that it gives must be settled by done, abandoned by requeue.
func (q *integrationQueue) next(now time.Time) integrationStep {
	if q.busy >= q.limits.Concurrency {
		return integrationStep{}
	}
	if q.open {
		return q.probe(now)
	}
	for len(q.wait) > 0 && !q.wait[0].notBefore.After(now) {
		q.ready = append(q.ready, heap.Pop(&q.wait).(*integrationLane))
	}
	q.park()
	var step integrationStep
	switch {
	case len(q.ready) == 0:
	case q.limits.BatchEvents > 1:
		step = q.takeBatch(now)
	default:
		step = q.take()
	}
	if step.Entry == nil && step.Fetch == nil && len(q.wait) > 0 && (step.Wake.IsZero() || q.wait[0].notBefore.Before(step.Wake)) {
		step.Wake = q.wait[0].notBefore
	}
	return step
}

// probe is next while the circuit is open: one delivery at a time, of another device each time.
func (q *integrationQueue) probe(now time.Time) integrationStep {
	if q.probing || q.busy > 0 {
		return integrationStep{}
	}
	if now.Before(q.openUntil) {
		return integrationStep{Wake: q.openUntil}
	}
	if len(q.ready) == 0 {
		if len(q.wait) == 0 { // cannot be: what failed waits
			q.close()
			return integrationStep{}
		}
		q.ready = append(q.ready, heap.Pop(&q.wait).(*integrationLane))
	}
	step := q.take()
	q.probing = step.Entry != nil
	return step
}

// take gives the first event of the first lane.
func (q *integrationQueue) take() integrationStep {
	l := q.ready[0]
	if len(l.bodies) == 0 {
		return integrationStep{Fetch: l}
	}
	return q.start([]*integrationLane{l}, 1)
}

// start begins a delivery of the first events of lanes that stand in ready, at most limit.
func (q *integrationQueue) start(lanes []*integrationLane, limit int) integrationStep {
	var entries []messages.LogEntry
	key := ""
	for i, l := range lanes {
		if i == 0 && limit > 1 {
			key = q.keyOf(l)
		}
		l.under = 0
		for l.under < len(l.bodies) && len(entries) < limit && (limit == 1 || q.key(l.bodies[l.under]) == key) {
			entries = append(entries, l.bodies[l.under])
			l.under++
		}
		if l.under > 0 {
			l.busy, l.since = true, time.Time{}
			q.unready(l)
		}
	}
	q.busy++
	return integrationStep{Entry: &entries[0], Entries: entries}
}

// fetchRange says what to read from the log for a lane without events in memory.
func (q *integrationQueue) fetchRange(l *integrationLane) (after uint64, count int) {
	count = min(32, q.limits.WindowEntries-q.bodies)
	if l.tries > 0 || q.bytes >= q.limits.WindowBytes {
		count = 1
	}
	count = max(count, 1)
	return l.held[0] - 1, count
}

// fetched gives the events read for a lane, in order, from the place that fetchRange named. It returns how many events of the lane
// are no longer in the log.
func (q *integrationQueue) fetched(l *integrationLane, entries []messages.LogEntry) (lost int) {
	take := func() { l.held = l.held[1:]; q.held-- }
	for _, e := range entries {
		for len(l.held) > 0 && l.held[0] < e.Seq {
			take()
			lost++
		}
		if len(l.held) == 0 || len(l.bodies) >= q.limits.LaneEntries {
			break
		}
		if l.held[0] != e.Seq {
			continue
		}
		take()
		l.bodies = append(l.bodies, e)
		q.bodies++
		q.bytes += integrationEntrySize(e)
	}
	if len(entries) == 0 { // the end of the log: nothing of what was known is left
		lost += len(l.held)
		q.held -= len(l.held)
		l.held = nil
	}
	if lost > 0 {
		l.forgive()
	}
	if len(l.bodies) == 0 && len(l.held) == 0 {
		q.drop(l)
	}
	return lost
}

// drop removes an empty lane that stands in ready.
func (q *integrationQueue) drop(l *integrationLane) {
	q.unready(l)
	q.forget(l)
}

func (q *integrationQueue) unready(l *integrationLane) {
	switch i := slices.Index(q.ready, l); {
	case i == 0: // the usual case, and the list may be long
		q.ready[0], q.ready = nil, q.ready[1:]
	case i > 0:
		q.ready = slices.Delete(q.ready, i, i+1)
	}
}

func (q *integrationQueue) forget(l *integrationLane) {
	if l.again {
		delete(q.again, l.device)
	} else {
		delete(q.lanes, l.device)
	}
}

func (l *integrationLane) forgive() {
	l.tries, l.failingSince, l.notBefore, l.refused = 0, time.Time{}, time.Time{}, false
}

// busyLane is the lane of a device that has a delivery under way; nil if none has. Only one can.
func (q *integrationQueue) busyLane(device messages.DeviceID) *integrationLane {
	for _, l := range []*integrationLane{q.lanes[device], q.again[device]} {
		if l != nil && l.busy {
			return l
		}
	}
	return nil
}

// end gives the lanes of a delivery that is over.
func (q *integrationQueue) end(entries []messages.LogEntry) (lanes []*integrationLane) {
	for _, e := range entries {
		if l := q.busyLane(e.Device); l != nil {
			l.busy = false
			lanes = append(lanes, l)
		}
	}
	if len(lanes) == 0 {
		return nil
	}
	q.busy--
	q.probing = false
	for _, l := range lanes {
		q.unpark(l)
	}
	return lanes
}

// requeue puts a delivery back that was broken off by ourselves: no outcome.
func (q *integrationQueue) requeue(entries ...messages.LogEntry) {
	lanes := q.end(entries)
	q.ready = append(lanes, q.ready...)
}

// cursor is the highest place below and at which everything is settled. It costs a look at each device with events in the queue.
func (q *integrationQueue) cursor() uint64 {
	c := q.read
	for _, l := range q.lanes {
		c = min(c, l.first()-1)
	}
	return c
}

func (l *integrationLane) first() uint64 {
	if len(l.bodies) > 0 {
		return l.bodies[0].Seq
	}
	return l.held[0]
}

// integrationLaneHeap orders waiting lanes by the time they may go on.
type integrationLaneHeap []*integrationLane

func (h integrationLaneHeap) Len() int           { return len(h) }
func (h integrationLaneHeap) Less(i, j int) bool { return h[i].notBefore.Before(h[j].notBefore) }
func (h integrationLaneHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *integrationLaneHeap) Push(x any)        { *h = append(*h, x.(*integrationLane)) }
func (h *integrationLaneHeap) Pop() any {
	old := *h
	l := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return l
}
