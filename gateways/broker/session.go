package broker

import (
	"slices"
	"sync"
)

const (
	// maxWindow is how many messages of QoS 1 and 2 may be on the way to a client and not confirmed, if it allows so many itself.
	maxWindow = 1024
	// maxSubscriptions of one session, and maxFilterBytes of their filters all together: they must fit into one document.
	maxSubscriptions = 10000
	maxFilterBytes   = 300 << 10
)

// sessionKey names a session: its client id means something only within one credential and user name, so that nobody takes over the session of
// another and a client id such as "inline" is like any other.
type sessionKey struct{ keyID, username, clientID string }

// session is what may outlive a connection: subscriptions, and the place in the log up to which the client has confirmed everything. While there is no
// connection, a session that is kept is a document and a cursor (see stored.go), and nothing of it is in memory.
type session struct {
	key    sessionKey
	app    *application
	server *Server
	prefix string // of all topics: v3/{uid}/devices/
	apiKey string // to ask again for its rights; never shown

	// Guarded by app.mu; own is guarded by mu as well, for changes.
	subscriptions map[string]*subscription // by filter
	filterBytes   int
	fed           bool   // it uses the feed of app, and its subscriptions are attached
	gone          bool   // it has left app for good
	mark          uint64 // of the last event that was matched
	matched       int    // place in app.targets

	mu     sync.Mutex
	client *client // nil while there is no connection
	live   bool    // CONNACK is written
	ended  bool
	own    ownFilters // the subscriptions that the lane serves
	lane
	received map[uint16]bool // ids of QoS 2 messages from the client that were carried out and not released

	stored stored
}

// delivery is one message of QoS 1 or 2 on its way to the client.
type delivery struct {
	seq      uint64
	id       uint16
	qos      byte
	bytes    int  // of the payload
	released bool // PUBREC came, PUBREL went
	done     bool
}

// event is what all sessions share of a log entry.
type event struct {
	seq            uint64
	id             string
	device, suffix string
	payload        []byte
}

// outgoing is one event to one session.
type outgoing struct {
	*event
	qos           byte
	subscriptions []int // identifiers
	again         bool  // it may have been sent before
	packetID      uint16
}

func newSession(key sessionKey, apiKey string, app *application, server *Server) *session {
	return &session{
		key: key, app: app, server: server, prefix: "v3/" + key.username + "/devices/", apiKey: apiKey,
		subscriptions: map[string]*subscription{}, lane: newLane(), received: map[uint16]bool{},
	}
}

// resume begins to send on a new connection: first again what the client has not confirmed [MQTT-4.4.0-1], then what came since.
func (s *session) resume(c *client) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.client != c { // taken over already
		return
	}
	s.live = true
	for _, d := range s.waiting {
		_, _ = c.Write(pubrel(d.id, 0))
	}
	s.read()
}

// bind makes c the connection of the session and returns the one that was.
func (s *session) bind(c *client) *client {
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.client
	if old != nil {
		s.pause()
	}
	s.client, s.live = c, false
	return old
}

// unbind ends the connection c of the session; false if it is not (any more) its connection.
func (s *session) unbind(c *client) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.client != c {
		return false
	}
	s.pause()
	s.client, s.live = nil, false
	return true
}

// end gives everything up and returns the connection, if there is one.
func (s *session) end() *client {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.client
	s.pause()
	s.client, s.live, s.ended, s.received = nil, false, true, nil
	return c
}

// subscribed is the number of its subscriptions.
func (s *session) subscribed() int {
	n, _, _ := s.app.subscribed(s, "")
	return n
}

// connection is that of the session, nil if there is none.
func (s *session) connection() *client {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.client
}

func (s *session) connected() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.live
}

// congested gives the connection of the session if half of its write buffer is full, nil if not.
func (s *session) congested() *client {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.live && s.client.congested() {
		return s.client
	}
	return nil
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

// ownFilters are the subscriptions of one session, without shared ones.
type ownFilters struct {
	wide     []*subscription
	byDevice map[string][]*subscription
	durable  int // those with QoS 1 or 2
}

func collectFilters(all map[string]*subscription) (o ownFilters) {
	o.byDevice = map[string][]*subscription{}
	for _, sub := range all {
		if sub.shared != "" {
			continue
		}
		if sub.qos > 0 {
			o.durable++
		}
		if device := deviceOf(sub.levels); device != "" {
			o.byDevice[device] = append(o.byDevice[device], sub)
		} else {
			o.wide = append(o.wide, sub)
		}
	}
	return o
}

// match gives the highest QoS of the subscriptions that want an event [MQTT-3.3.5-1], and their identifiers. Subscriptions begin with the events that
// come after them.
func (o *ownFilters) match(seq uint64, device string, topic []string) (qos byte, ids []int) {
	for _, list := range [][]*subscription{o.byDevice[device], o.wide} {
		for _, sub := range list {
			if seq <= sub.since || !matches(sub.levels, topic) {
				continue
			}
			qos = max(qos, sub.qos)
			if sub.id != 0 && !slices.Contains(ids, sub.id) {
				ids = append(ids, sub.id)
			}
		}
	}
	return qos, ids
}
