package broker

import (
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"lorikeet/messages"
)

// application holds the subscriptions to the events of one application.
type application struct {
	count atomic.Int64 // of subscriptions: an event of an application without any costs one look

	mu       sync.Mutex
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
	filter  *filter
	qos     byte
	id      int // subscription identifier, 0 if none
}

type target struct {
	session *session
	qos     byte
	ids     []int
}

func newApplication() *application {
	return &application{byDevice: map[string][]*filter{}, shared: map[string]*filter{}}
}

// subscribed gives the number of subscriptions of the session, and whether one has that text.
func (a *application) subscribed(s *session, text string) (n int, has bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(s.subscriptions), s.subscriptions[text] != nil
}

// subscribe adds a subscription of the session, or replaces the one with the same text.
func (a *application) subscribe(s *session, text, share string, levels []string, qos byte, id int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if s.gone {
		return
	}
	if old := s.subscriptions[text]; old != nil {
		old.qos, old.id = qos, id
		return
	}
	sub := &subscription{session: s, qos: qos, id: id}
	key := ""
	if share != "" {
		key = share + "/" + strings.Join(levels, "/")
	}
	f := a.shared[key]
	if f == nil {
		f = &filter{levels: levels, shared: key}
		if key != "" {
			a.shared[key] = f
		}
		if device := deviceOf(levels); device != "" {
			a.byDevice[device] = append(a.byDevice[device], f)
		} else {
			a.wide = append(a.wide, f)
		}
	}
	sub.filter = f
	f.members = append(f.members, sub)
	s.subscriptions[text] = sub
	a.count.Add(1)
}

// unsubscribe takes back the subscriptions with these texts, where there are any.
func (a *application) unsubscribe(s *session, texts []string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, text := range texts {
		if sub := s.subscriptions[text]; sub != nil {
			delete(s.subscriptions, text)
			a.remove(sub)
		}
	}
	a.sweep()
}

// leave takes back all subscriptions of the session. It gets no more, though its connection may be just about to ask for one.
func (a *application) leave(s *session) {
	a.mu.Lock()
	defer a.mu.Unlock()
	s.gone = true
	for text, sub := range s.subscriptions {
		delete(s.subscriptions, text)
		a.remove(sub)
	}
	a.sweep()
}

// sweep takes the filters without members out of a.wide.
func (a *application) sweep() {
	a.wide = slices.DeleteFunc(a.wide, func(f *filter) bool { return len(f.members) == 0 })
}

// remove takes a subscription out of everything but a.wide.
func (a *application) remove(sub *subscription) {
	f := sub.filter
	a.count.Add(-1)
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

// publish hands an event to every session that is subscribed to it, once each. It returns the sessions that must end since they can keep no more, and one
// whose client is far behind, if there is one.
func (a *application) publish(e messages.LogEntry) (overfull []*session, behind *session) {
	suffix, ok := suffixes[e.Type]
	if !ok {
		return nil, nil
	}
	topic := append(make([]string, 0, 4), "devices", e.Device.DeviceID)
	topic = append(topic, strings.Split(suffix[1:], "/")...)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.events++
	clear(a.targets)
	a.targets = a.targets[:0]
	a.match(a.byDevice[e.Device.DeviceID], topic)
	a.match(a.wide, topic)
	if len(a.targets) == 0 {
		return nil, nil
	}
	ev := &event{device: e.Device.DeviceID, suffix: suffix, payload: e.JSON}
	for _, t := range a.targets {
		if !t.session.deliver(ev, t.qos, t.ids) {
			overfull = append(overfull, t.session)
		}
		if t.session.congested() != nil {
			behind = t.session
		}
	}
	return overfull, behind
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
// and all subscription identifiers.
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
		t.qos = max(t.qos, sub.qos)
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

func (s *session) connected() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.live
}
