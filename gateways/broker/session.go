package broker

import (
	"sync"
	"time"
)

const (
	// maxWindow is how many messages of QoS 1 and 2 may be on the way to a client and not confirmed, if it allows so many itself.
	maxWindow = 1024
	// maxWaiting and maxWaitingBytes limit what waits for a client, on the way or not; maxWaitingOfAll is for all clients.
	maxWaiting      = 100000
	maxWaitingBytes = 64 << 20
	maxWaitingOfAll = 512 << 20
	// maxSubscriptions of one session.
	maxSubscriptions = 10000
)

// sessionKey names a session: its client id means something only within one credential and user name, so that nobody takes over the session of
// another and a client id such as "inline" is like any other.
type sessionKey struct{ keyID, username, clientID string }

// session is what outlives a connection: subscriptions, and the messages of QoS 1 and 2 that the client has not confirmed. It keeps them in their order,
// with packet ids of its own, apart from those that the client gives to what it publishes.
type session struct {
	key    sessionKey
	app    *application
	prefix string // of all topics: v3/{uid}/devices/
	apiKey string // to ask again for its rights; never shown
	kept   *memory

	subscriptions map[string]*subscription // by filter; guarded by app.mu
	gone          bool                     // it has left app for good, guarded by app.mu
	mark          uint64                   // of the last event that was matched, guarded by app.mu
	matched       int                      // place in app.targets, guarded by app.mu

	mu       sync.Mutex
	client   *client // nil while there is no connection
	live     bool    // CONNACK is written
	ended    bool
	waiting  []*delivery // in order; the first next of them were sent
	next     int
	bytes    int // of the payloads in waiting
	sent     int // not confirmed on this connection
	byID     map[uint16]*delivery
	lastID   uint16
	received map[uint16]bool // ids of QoS 2 messages from the client that were carried out and not released
	expiry   *time.Timer
	will     *time.Timer
}

// delivery is one message of QoS 1 or 2 to one session.
type delivery struct {
	event         *event
	qos           byte
	subscriptions []int
	id            uint16 // 0: never sent
	onWay         bool   // it, or its PUBREL, was sent on this connection
	released      bool   // PUBREC came, PUBREL went
	done          bool
}

// event is what all sessions share of a log entry.
type event struct {
	device, suffix string
	payload        []byte
}

// deliver sends the event, or keeps it if it must not be lost. False: the session can't keep more and has to end.
func (s *session) deliver(e *event, qos byte, ids []int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return true
	}
	if qos == 0 {
		if s.live {
			s.client.send(s, &delivery{event: e, subscriptions: ids}, false)
		}
		return true
	}
	if len(s.waiting) >= maxWaiting || s.bytes+len(e.payload) > maxWaitingBytes || !s.kept.allows(s.bytes, len(e.payload)) {
		return false
	}
	s.waiting = append(s.waiting, &delivery{event: e, qos: qos, subscriptions: ids})
	s.hold(len(e.payload))
	s.fill()
	return true
}

func (s *session) hold(n int) {
	s.bytes += n
	s.kept.used.Add(int64(n))
}

// congested gives the connection of the session if it has fallen far behind, nil if not.
func (s *session) congested() *client {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.live && (len(s.waiting) > maxWaiting/2 || s.client.congested()) {
		return s.client
	}
	return nil
}

// fill sends what the window allows. s.mu is held.
func (s *session) fill() {
	for s.live && s.next < len(s.waiting) && s.sent < s.client.window {
		d := s.waiting[s.next]
		s.next++
		if d.done || d.released {
			continue
		}
		again := d.id != 0
		if !again {
			d.id = s.freeID()
			s.byID[d.id] = d
		}
		s.sent++
		d.onWay = true
		if !s.client.send(s, d, again) {
			s.confirm(d)
		}
	}
}

// freeID finds a packet id that is not in use; there is one, since a window is smaller than their number.
func (s *session) freeID() uint16 {
	for {
		s.lastID++
		if s.lastID != 0 && s.byID[s.lastID] == nil {
			return s.lastID
		}
	}
}

// confirm settles a delivery that was sent, if only on an earlier connection. s.mu is held.
func (s *session) confirm(d *delivery) {
	d.done = true
	delete(s.byID, d.id)
	if d.onWay {
		s.sent--
	}
	s.hold(-len(d.event.payload))
	d.event = nil // it may wait long for those before it
	for len(s.waiting) > 0 && s.waiting[0].done {
		s.waiting[0] = nil
		s.waiting = s.waiting[1:]
		s.next = max(0, s.next-1)
	}
}

// puback is called for PUBACK and, with qos 2, for PUBCOMP.
func (s *session) puback(id uint16, qos byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d := s.byID[id]; d != nil && d.qos == qos {
		s.confirm(d)
		s.fill()
	}
}

// pubrec is called for PUBREC. It gives the reason for the PUBREL that is to follow, and whether one is to follow.
func (s *session) pubrec(id uint16, refused bool) (reason byte, answer bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.byID[id]
	switch {
	case d == nil || d.qos != 2:
		return 0x92, !refused // packet identifier not found
	case refused:
		s.confirm(d)
		s.fill()
		return 0, false
	}
	d.released = true
	return 0, true
}

// resume begins to send on a new connection: first again what the client has not confirmed [MQTT-4.4.0-1], then what came since.
func (s *session) resume(c *client) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.client != c { // taken over already
		return
	}
	s.live, s.next, s.sent = true, 0, 0
	for _, d := range s.waiting {
		if d.onWay = d.released && !d.done; d.onWay {
			s.sent++
			_, _ = c.Write(pubrel(d.id, 0))
		}
	}
	s.fill()
}

// bind makes c the connection of the session and returns the one that was.
func (s *session) bind(c *client) *client {
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.client
	s.client, s.live = c, false
	stop(s.expiry)
	stop(s.will)
	return old
}

// unbind ends the connection c of the session; false if it is not (any more) its connection.
func (s *session) unbind(c *client) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.client != c {
		return false
	}
	s.client, s.live = nil, false
	return true
}

// end gives everything up and returns the connection, if there is one.
func (s *session) end() *client {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.client
	s.hold(-s.bytes)
	s.client, s.live, s.ended, s.waiting, s.byID, s.received = nil, false, true, nil, nil, nil
	s.next, s.sent = 0, 0
	stop(s.expiry)
	return c
}

func stop(t *time.Timer) {
	if t != nil {
		t.Stop()
	}
}

// seen says whether a QoS 2 message of the client was carried out already, under the same id.
func (s *session) seen(id uint16) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.received[id]
}

func (s *session) remember(id uint16) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.received != nil && len(s.received) < maxWindow {
		s.received[id] = true
	}
}

// release forgets the id of a QoS 2 message of the client, and says whether it was known.
func (s *session) release(id uint16) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	known := s.received[id]
	delete(s.received, id)
	return known
}

func newSession(key sessionKey, apiKey string, kept *memory) *session {
	return &session{
		key: key, prefix: "v3/" + key.username + "/devices/", apiKey: apiKey, kept: kept,
		subscriptions: map[string]*subscription{}, byID: map[uint16]*delivery{}, received: map[uint16]bool{},
	}
}
