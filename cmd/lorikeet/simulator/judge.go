package simulator

import (
	"fmt"
	"sync"
	"time"

	"lorikeet/messages"
)

// Mark is a moment at which something was done to the servers, e.g. a node killed.
type Mark struct {
	Name string
	At   time.Time
}

// receiver is who got an event.
type receiver int

const (
	byWebhook receiver = iota // durable: every accepted uplink must come here
	byMQTT                    // live
)

// arrival is one delivery of one event to one receiver.
type arrival struct {
	by      receiver
	kind    messages.EventType
	device  string
	addr    messages.DevAddr
	fCnt    uint32  // of an uplink
	eventID string  // empty if the receiver is not told
	body    uint64  // hash of the whole body
	push    *uint64 // of a downlink_queued: the number of the push that it answers
	at      time.Duration
}

// judged is what the judge knows of one uplink.
type judged struct {
	accepted  bool // an event came, or the device got the ACK
	acked     bool
	atWebhook bool
	eventID   string // the first that came
	body      uint64 // of the first event that came; valid if hasBody
	hasBody   bool
	twice     bool
}

// judgedSession is one session of a device, by FCntUp.
type judgedSession struct {
	addr    messages.DevAddr
	uplinks map[uint32]*judged
}

type judgedDevice struct {
	sessions  []*judgedSession  // in the order in which they sent first
	confirmed map[uint64]uint32 // FCntUp of transmissions that want an ACK, by sequence
	newest    [2]int64          // session and FCntUp of the newest first delivery to the webhook
	accepted  []time.Duration
}

// judge compares what devices sent and heard with what the receivers got, and finds what a cluster must never do. It keeps every uplink, so it is not
// for runs of millions. Times are since the start of the run; it reads no clock. It is safe for concurrent use.
type judge struct {
	// acceptedNow is told of each uplink whose acceptance becomes known, once; nil: not wanted.
	acceptedNow func(device string)

	mu       sync.Mutex
	devices  map[string]*judgedDevice
	ids      map[string]any  // what event ids at the webhook stand for: a *judged, or the hash of the body of another event
	pushes   map[uint64]bool // downlinks that the broker acknowledged, by number; true: queued, by the webhook
	events   uint64          // deliveries to the webhook
	repeated uint64
	twice    uint64
	order    uint64
	unknown  uint64
	unsigned uint64
	examples []string
	marks    []timedMark
	last     time.Duration // of the last arrival
}

type timedMark struct {
	Mark
	at time.Duration
}

// maxExamples bounds the faults that are told one by one.
const maxExamples = 20

func newJudge() *judge {
	return &judge{devices: map[string]*judgedDevice{}, ids: map[string]any{}, pushes: map[uint64]bool{}}
}

func (j *judge) example(format string, args ...any) {
	if len(j.examples) < maxExamples {
		j.examples = append(j.examples, fmt.Sprintf(format, args...))
	}
}

// sent notes a transmission of an uplink just before it is on air; a repetition too.
func (j *judge) sent(device string, addr messages.DevAddr, t Transmission) {
	j.mu.Lock()
	defer j.mu.Unlock()
	d := j.devices[device]
	if d == nil {
		d = &judgedDevice{confirmed: map[uint64]uint32{}, newest: [2]int64{-1, -1}}
		j.devices[device] = d
	}
	if t.Confirmed {
		d.confirmed[t.Sequence] = t.FCnt
	}
	if len(d.sessions) == 0 || d.sessions[len(d.sessions)-1].addr != addr {
		d.sessions = append(d.sessions, &judgedSession{addr: addr, uplinks: map[uint32]*judged{}})
	}
	if s := d.sessions[len(d.sessions)-1]; s.uplinks[t.FCnt] == nil {
		s.uplinks[t.FCnt] = &judged{}
	}
}

// acked notes that the device got an ACK in a window of the given transmission.
func (j *judge) acked(device string, addr messages.DevAddr, sequence uint64, at time.Duration) {
	j.mu.Lock()
	defer j.mu.Unlock()
	d := j.devices[device]
	if d == nil {
		return
	}
	fCnt, ok := d.confirmed[sequence]
	if !ok {
		return
	}
	if _, u := d.find(addr, fCnt); u != nil {
		u.acked = true
		j.accept(device, d, u, at)
	}
}

func (d *judgedDevice) find(addr messages.DevAddr, fCnt uint32) (session int, u *judged) {
	for i := len(d.sessions) - 1; i >= 0; i-- {
		if s := d.sessions[i]; s.addr == addr {
			return i, s.uplinks[fCnt]
		}
	}
	return 0, nil
}

func (j *judge) accept(device string, d *judgedDevice, u *judged, at time.Duration) {
	if u.accepted {
		return
	}
	u.accepted = true
	d.accepted = append(d.accepted, at)
	if j.acceptedNow != nil {
		j.acceptedNow(device)
	}
}

// arrive notes a delivery.
func (j *judge) arrive(a arrival) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.last = a.at
	if a.by == byWebhook {
		j.events++
		if a.eventID == "" {
			j.unsigned++
			j.example("%s of %s came without an event id", a.kind, a.device)
		}
	}
	if a.kind == messages.EventUplink {
		j.uplink(a)
		return
	}
	if a.by == byWebhook && a.push != nil {
		j.pushes[*a.push] = true
	}
	if a.by == byWebhook && j.names(a, a.body) {
		j.repeated++
	}
}

// names notes what an event id stands for, and says whether it stood for that already. Whoever drops repeats by their id would lose what is another.
func (j *judge) names(a arrival, what any) bool {
	if a.eventID == "" {
		return false
	}
	had, seen := j.ids[a.eventID]
	if seen && had != what {
		j.twice++
		j.example("event id %s came with two contents, the second a %s of %s", a.eventID, a.kind, a.device)
		return false
	}
	j.ids[a.eventID] = what
	return seen
}

func (j *judge) uplink(a arrival) {
	var session int
	var u *judged
	d := j.devices[a.device]
	if d != nil {
		session, u = d.find(a.addr, a.fCnt)
	}
	if u == nil {
		j.unknown++
		j.example("uplink FCntUp %d of %s (DevAddr %s) was never sent", a.fCnt, a.device, a.addr)
		return
	}
	j.accept(a.device, d, u, a.at)
	j.names(a, u)
	first := a.by == byWebhook && !u.atWebhook
	other := u.hasBody && u.body != a.body || a.eventID != "" && u.eventID != "" && u.eventID != a.eventID
	switch {
	case other && !u.twice:
		u.twice = true
		j.twice++
		j.example("uplink FCntUp %d of %s was published twice: event %q and %q, same body: %t", a.fCnt, a.device, u.eventID, a.eventID, u.body == a.body)
	case !other && a.by == byWebhook && !first:
		j.repeated++
	}
	if !u.hasBody {
		u.body, u.hasBody = a.body, true
	}
	if u.eventID == "" {
		u.eventID = a.eventID
	}
	if a.by != byWebhook || !first && !other {
		return
	}
	u.atWebhook = true
	if at := [2]int64{int64(session), int64(a.fCnt)}; at[0] < d.newest[0] || at[0] == d.newest[0] && at[1] < d.newest[1] {
		j.order++
		j.example("uplink FCntUp %d of %s came after %d", a.fCnt, a.device, d.newest[1])
	} else {
		d.newest = at
	}
}

// pushed notes that the broker acknowledged a downlink.
func (j *judge) pushed(number uint64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if !j.pushes[number] { // the event may have been faster
		j.pushes[number] = false
	}
}

// mark notes a moment of interest.
func (j *judge) mark(m Mark, at time.Duration) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.marks = append(j.marks, timedMark{m, at})
}

// quietFor is how long nothing arrives before uplinks that nobody knows of are no longer awaited.
const quietFor = 5 * time.Second

// complete says that nothing more is to be expected: downlinks were queued, and every uplink came to the webhook, or every one that is known to be accepted did, and for a while
// nothing else has come. end is when the last uplink was sent.
func (j *judge) complete(now, end time.Duration) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	all := now-max(j.last, end) < quietFor
	for _, queued := range j.pushes {
		if !queued {
			return false
		}
	}
	for _, d := range j.devices {
		for _, s := range d.sessions {
			for _, u := range s.uplinks {
				if !u.atWebhook && (all || u.accepted) {
					return false
				}
			}
		}
	}
	return true
}

// verdict sums up. interval is how often a device sends; end is when the last uplink was sent.
func (j *judge) verdict(interval, end time.Duration) *Verdict {
	j.mu.Lock()
	defer j.mu.Unlock()
	v := &Verdict{Deliveries: j.events, Repeated: j.repeated, PublishedTwice: j.twice, OutOfOrder: j.order, NeverSent: j.unknown, WithoutID: j.unsigned}
	examples := append([]string(nil), j.examples...)
	for name, d := range j.devices {
		for _, s := range d.sessions {
			for fCnt, u := range s.uplinks {
				if !u.accepted {
					v.NotAccepted++
					continue
				}
				v.Accepted++
				if u.atWebhook {
					continue
				}
				v.Lost++
				if len(examples) < maxExamples {
					examples = append(examples, fmt.Sprintf("uplink FCntUp %d of %s is lost (acknowledged to the device: %t, seen by MQTT: %t)", fCnt, name, u.acked, u.hasBody))
				}
			}
		}
	}
	for number, queued := range j.pushes {
		if !queued {
			v.PushesLost++
			if len(examples) < maxExamples {
				examples = append(examples, fmt.Sprintf("downlink %d was acknowledged by the broker, but never queued", number))
			}
		}
	}
	v.Examples = examples
	v.Outage, v.Interrupted, v.Marks = j.outages(interval, end)
	return v
}
