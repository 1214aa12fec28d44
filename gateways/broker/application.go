package broker

import (
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"lorikeet/messages"
)

// application holds the subscriptions of the connected clients to the events of one application.
type application struct {
	id       string
	position atomic.Uint64 // the feed has handed out every event up to here

	feedMu sync.Mutex // held while a feed is started or stopped
	users  int        // sessions with subscriptions, guarded by feedMu

	mu       sync.Mutex
	feed     *feed                // nil while nobody subscribes
	wide     []*filter            // that may match any device
	byDevice map[string][]*filter // the others
	shared   map[string]*filter   // by share group and levels
	events   uint64
	targets  []target // of the event being published
	credit   credit
}

// credit is the time that publishing may wait for slow clients: waitingTime in each second.
type credit struct {
	second time.Time
	left   time.Duration
}

const (
	waitingTime = 50 * time.Millisecond
	// promptly is how soon a client that reads makes room for the next chunk. Waiting for it so long is free: the burst was faster than the wire, and there
	// is still a chunk, some hundred events, every promptly for everyone.
	promptly = 5 * time.Millisecond
)

// filter is a topic filter below v3/{uid} with its subscribers: one, or the members of a share group, of which one gets each event.
type filter struct {
	levels  []string
	shared  string // key in application.shared, "" if it is no share group
	members []*subscription
	turn    int
}

type subscription struct {
	session *session
	levels  []string // of its filter below v3/{uid}
	shared  string   // key in application.shared, "" if it is not for a share group
	filter  *filter  // where it is attached, nil if it is not

	// Changed only with application.mu and session.mu held.
	qos   byte
	id    int    // subscription identifier, 0 if none
	since uint64 // it begins with the events after this place
}

type target struct {
	session *session
	qos     byte
	ids     []int
}

func newApplication(id string) *application {
	return &application{id: id, byDevice: map[string][]*filter{}, shared: map[string]*filter{}}
}

// subscribed gives the number of subscriptions of the session and the bytes of their filters, and whether one has that text.
func (a *application) subscribed(s *session, text string) (n, bytes int, has bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(s.subscriptions), s.filterBytes, s.subscriptions[text] != nil
}

// request is a subscription that is wanted.
type request struct {
	text, share string
	levels      []string
	qos         byte
	id          int
	since       uint64
}

// subscribe adds subscriptions of the session, or replaces those with the same text. They begin with what the feed hands out next.
func (a *application) subscribe(s *session, requests ...request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if s.gone {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	here := a.position.Load()
	for _, r := range requests {
		if old := s.subscriptions[r.text]; old != nil {
			if old.qos == 0 {
				old.since = here
			}
			old.qos, old.id = r.qos, r.id
			continue
		}
		r.since = here
		sub := a.add(s, r)
		if s.fed {
			a.attachOne(sub)
		}
	}
	s.refit(here)
}

// add notes a subscription with the session. a.mu is held.
func (a *application) add(s *session, r request) *subscription {
	key := ""
	if r.share != "" {
		key = r.share + "/" + strings.Join(r.levels, "/")
	}
	sub := &subscription{session: s, levels: r.levels, shared: key, qos: r.qos, id: r.id, since: r.since}
	s.subscriptions[r.text] = sub
	s.filterBytes += len(r.text)
	return sub
}

// refit makes the lane serve the subscriptions as they are now. A lane that had none before begins here. s.app.mu and s.mu are held.
func (s *session) refit(here uint64) {
	before := s.own.durable
	s.own = collectFilters(s.subscriptions)
	switch {
	case before == 0 && s.own.durable > 0:
		s.moveTo(max(s.place, here))
		s.following = s.live
	case before > 0 && s.own.durable == 0:
		s.moveTo(s.place)
	}
}

// unsubscribe takes back the subscriptions with these texts, and says for each whether there was one.
func (a *application) unsubscribe(s *session, texts []string) (had []bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, text := range texts {
		sub := s.subscriptions[text]
		if had = append(had, sub != nil); sub == nil {
			continue
		}
		delete(s.subscriptions, text)
		s.filterBytes -= len(text)
		if s.fed {
			a.remove(sub)
		}
	}
	a.sweep()
	s.refit(a.position.Load())
	return had
}

// attach makes the subscriptions of the session get events, now and later; false if they do already, or the session is gone.
func (a *application) attach(s *session) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if s.fed || s.gone {
		return false
	}
	s.fed = true
	for _, sub := range s.subscriptions {
		a.attachOne(sub)
	}
	return true
}

// attachOne puts a subscription to the others. a.mu is held.
func (a *application) attachOne(sub *subscription) {
	f := a.shared[sub.shared]
	if f == nil {
		f = &filter{levels: sub.levels, shared: sub.shared}
		if f.shared != "" {
			a.shared[f.shared] = f
		}
		if device := deviceOf(f.levels); device != "" {
			a.byDevice[device] = append(a.byDevice[device], f)
		} else {
			a.wide = append(a.wide, f)
		}
	}
	sub.filter = f
	f.members = append(f.members, sub)
}

// detach ends that; the session keeps its subscriptions. False if it was not attached.
func (a *application) detach(s *session) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.drop(s)
}

// leave is detach for good: the session subscribes to nothing more, though its connection may be just about to ask for it.
func (a *application) leave(s *session) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	s.gone = true
	return a.drop(s)
}

func (a *application) drop(s *session) bool {
	if !s.fed {
		return false
	}
	s.fed = false
	for _, sub := range s.subscriptions {
		a.remove(sub)
	}
	a.sweep()
	return true
}

// sweep takes the filters without members out of a.wide.
func (a *application) sweep() {
	a.wide = slices.DeleteFunc(a.wide, func(f *filter) bool { return len(f.members) == 0 })
}

// remove takes a subscription out of everything but a.wide.
func (a *application) remove(sub *subscription) {
	f := sub.filter
	sub.filter = nil
	f.members = slices.DeleteFunc(f.members, func(m *subscription) bool { return m == sub })
	if len(f.members) > 0 {
		return
	}
	if f.shared != "" {
		delete(a.shared, f.shared)
	}
	device := deviceOf(f.levels)
	if device == "" {
		return
	}
	rest := slices.DeleteFunc(a.byDevice[device], func(other *filter) bool { return other == f })
	if a.byDevice[device] = rest; len(rest) == 0 {
		delete(a.byDevice, device)
	}
}

func eventOfEntry(e *messages.LogEntry, suffix string) *event {
	return &event{seq: e.Seq, id: e.ID, device: e.Device.DeviceID, suffix: suffix, payload: e.JSON}
}

// topicOf gives the levels of the topic of an event below v3/{uid}.
func topicOf(device, suffix string) []string {
	return append(append(make([]string, 0, 4), "devices", device), strings.Split(suffix[1:], "/")...)
}

// publish hands an event of the feed to every session that is subscribed to it, once each. It returns one whose client is far behind, if there is one.
func (a *application) publish(f *feed, e *messages.LogEntry) (behind *session) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.feed != f { // it has ended
		return nil
	}
	before := a.position.Load()
	defer a.position.Store(e.Seq)
	suffix, known := suffixes[e.Type]
	if !known {
		return nil
	}
	topic := topicOf(e.Device.DeviceID, suffix)
	a.events++
	clear(a.targets)
	a.targets = a.targets[:0]
	a.match(a.byDevice[e.Device.DeviceID], topic)
	a.match(a.wide, topic)
	if len(a.targets) == 0 {
		return nil
	}
	ev := eventOfEntry(e, suffix)
	for _, t := range a.targets {
		t.session.deliver(ev, t.qos, t.ids, before)
		if t.session.congested() != nil {
			behind = t.session
		}
	}
	return behind
}

// wait gives a client that is far behind time to read, so that a burst does not cut those who only need a moment. A client that reads slowly, or not at
// all, gets what credit there is and no more. The caller has the log as its buffer.
func (a *application) wait(s *session) {
	t := time.NewTimer(promptly)
	defer t.Stop()
	for {
		c := s.congested()
		began := time.Now()
		if c == nil || a.spend(began, 0) <= 0 {
			return
		}
		t.Reset(promptly)
		select {
		case <-c.drained:
		case <-t.C:
			a.spend(began, promptly)
		}
	}
}

// spend takes from the credit of this second and says what is left.
func (a *application) spend(now time.Time, d time.Duration) time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	if now.Sub(a.credit.second) > time.Second {
		a.credit = credit{second: now, left: waitingTime}
	}
	a.credit.left -= d
	return a.credit.left
}

// match adds the sessions behind the filters to a.targets. Overlapping subscriptions of a session give one delivery with the highest QoS [MQTT-3.3.5-1]
// and all subscription identifiers. What a share group gets is of QoS 0.
func (a *application) match(filters []*filter, topic []string) {
	for _, f := range filters {
		if !matches(f.levels, topic) {
			continue
		}
		sub := f.pick()
		s := sub.session
		if s.mark != a.events {
			s.mark, s.matched = a.events, len(a.targets)
			a.targets = append(a.targets, target{session: s})
		}
		t := &a.targets[s.matched]
		if f.shared == "" {
			t.qos = max(t.qos, sub.qos)
		}
		if sub.id != 0 && !slices.Contains(t.ids, sub.id) {
			t.ids = append(t.ids, sub.id)
		}
	}
}

// pick takes the members of a share group in turn, those with a connection first [MQTT5-4.8.2].
func (f *filter) pick() *subscription {
	for range f.members {
		f.turn++
		if sub := f.members[f.turn%len(f.members)]; len(f.members) == 1 || sub.session.connected() {
			return sub
		}
	}
	return f.members[f.turn%len(f.members)]
}
