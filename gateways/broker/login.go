package broker

import (
	"context"
	"errors"
	"hash/fnv"
	"sync"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"

	"lorikeet/gateways"
	"lorikeet/messages"
)

const (
	listenerName = "tcp"
	// maxKeepAlive is told to clients of MQTT 5 that ask for more, or for none, in seconds.
	maxKeepAlive = 600
	// sessionsPerConnection limits the sessions that are kept, as a multiple of MaxConnections. One application may have half of them: one whose clients
	// come with a new id each time keeps nobody else's out.
	sessionsPerConnection = 2
	// takeOverTries is how often a login reads a session anew that another node writes at the same time, as its good-bye at the end of the connection
	// before this one.
	takeOverTries = 5
	// storeTimeout is for what is to be written at the end of a connection.
	storeTimeout = 10 * time.Second

	// Reasons of DISCONNECT [MQTT5-3.14.2.1].
	reasonNotAuthorized = 0x87
	reasonServerBusy    = 0x89
	reasonShuttingDown  = 0x8B
	reasonTakenOver     = 0x8E
	reasonQuotaExceeded = 0x97
)

// login answers CONNECT: it finds out who the client is, what it may do, and gives it its session.
func (s *Server) login(c *client, cl *mqtt.Client, pk packets.Packet) packets.Code {
	app, ok := parseUsername(string(pk.Connect.Username))
	asked := credentials{username: string(pk.Connect.Username), clientID: cl.ID, apiKey: string(pk.Connect.Password)}
	if !ok {
		s.attempts.failed(c.guest.host, asked)
		return s.refuse(c, "username", packets.ErrBadUsernameOrPassword)
	}
	if !s.attempts.allowed(c.guest.host, asked) {
		return s.refuse(c, "too_many_failures", packets.ErrConnectionRateExceeded)
	}
	for {
		revocations := s.revocations.Load()
		keyID, read, write, err := s.rights(s.ctx, asked)
		switch {
		case messages.CodeOf(err) == messages.CodeUnavailable:
			return s.refuse(c, "unavailable", packets.ErrServerUnavailable)
		case err != nil:
			s.attempts.failed(c.guest.host, asked)
			s.announce(c, asked, app, err)
			return s.refuse(c, "credentials", packets.ErrBadUsernameOrPassword)
		case !read && !write:
			s.announce(c, asked, app, errNoRights)
			return s.refuse(c, "rights", packets.ErrBadUsernameOrPassword)
		}
		s.attempts.succeeded(c.guest.host, asked)
		c.canRead.Store(read)
		c.canWrite.Store(write)
		if code := s.takeWill(c, cl, asked.username); code != packets.CodeSuccess {
			s.announce(c, asked, app, errWill)
			return s.refuse(c, "will", code)
		}
		s.describe(c, cl, pk, app)
		if code, done := s.enter(c, asked.with(keyID), asked.apiKey, pk.Connect.Clean, revocations); done {
			return code
		}
	}
}

// credentials are what a client says of itself.
type credentials struct{ username, clientID, apiKey string }

func (c credentials) with(keyID string) sessionKey {
	return sessionKey{keyID: keyID, username: c.username, clientID: c.clientID}
}

func (s *Server) refuse(c *client, reason string, code packets.Code) packets.Code {
	s.metrics.refused.WithLabelValues(reason).Inc()
	s.log.Debug("MQTT login refused", "reason", reason, "remote", c.guest.host)
	return code
}

var (
	errNoRights = messages.Errorf(messages.CodeForbidden, "insufficient_application_rights", "the API key needs %s or %s", messages.RightApplicationTrafficRead,
		messages.RightApplicationTrafficDownWrite)
	errWill = messages.Errorf(messages.CodeForbidden, "will_not_allowed",
		"a last will is a downlink request: use the topic v3/{application}/devices/{device_id}/down/push, with your user name for {application}, and an API key with %s",
		messages.RightApplicationTrafficDownWrite)
)

// announce tells those who watch the application that a client could not log in. Who may not know whether an application exists learns nothing by it.
func (s *Server) announce(c *client, asked credentials, app string, reason error) {
	if s.cfg.ApplicationExists(app) {
		s.cfg.LoginRefused(app, messages.Errorf(messages.CodeOf(reason), "mqtt_connect", "MQTT client %q from %s: %w", shown(asked.clientID), c.guest.host, reason))
	}
}

// rights asks what an API key may do now.
func (s *Server) rights(ctx context.Context, asked credentials) (keyID string, read, write bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.ConnectTimeout)
	defer cancel()
	access, err := s.cfg.Authorize(ctx, asked.apiKey)
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		err = messages.Errorf(messages.CodeUnavailable, "unavailable", "authorize: %w", err)
	}
	if err != nil {
		return "", false, false, err
	}
	app, _ := parseUsername(asked.username)
	if !s.cfg.ApplicationExists(app) {
		return "", false, false, messages.NotFound("application_not_found", "application %s does not exist", app)
	}
	read, write = canRead(access, app), access.Can(app, messages.RightApplicationTrafficDownWrite)
	return access.KeyID, read, write, nil
}

func canRead(a messages.Access, app string) bool {
	return a.Can(app, messages.RightApplicationTrafficRead)
}

// describe takes from CONNECT what the client's side is like, and mends what the library would get wrong.
func (s *Server) describe(c *client, cl *mqtt.Client, pk packets.Packet, app string) {
	c.protocol, c.v5, c.maxExpiry = cl, pk.ProtocolVersion == 5, s.cfg.MaxSessionExpiry
	c.window = maxWindow
	if c.v5 {
		c.maxPacket = int(pk.Properties.MaximumPacketSize)
		if n := int(pk.Properties.ReceiveMaximum); n > 0 {
			c.window = min(c.window, n)
		}
	}
	// With a quota the library takes one lock twice and may stop for ever. It has nothing to send, so it needs none.
	cl.Properties.Props.ReceiveMaximum = 0
	cl.State.Inflight.ResetSendQuota(0)
	keepAlive := pk.Connect.Keepalive
	if c.v5 && (keepAlive == 0 || keepAlive > maxKeepAlive) {
		keepAlive = maxKeepAlive
		cl.State.Keepalive, cl.State.ServerKeepalive = keepAlive, true
	}
	// A client of 3.1.1 can't be told another keep-alive. One without any is found dead by TCP, or by what is written to it.
	c.keepAlive.Store(int64(time.Duration(keepAlive) * time.Second))
	c.queue = &queue{downlinks: s.cfg.Downlinks, app: s.application(app)}
	c.downlinks = &gateways.DownlinkDoor{Application: app, Provider: "broker", Downlinks: c.queue, Logger: s.log, Input: s.cfg.Input, SenderRepeats: true}
}

// enter makes c the connection of its session: the one that there is, here or in the store, or a new one. Logins of one session come one after the
// other. Not done: rights were revoked meanwhile, so ask again.
func (s *Server) enter(c *client, key sessionKey, apiKey string, clean bool, revocations int64) (code packets.Code, done bool) {
	defer s.turns.take(key)()
	ctx, cancel := context.WithTimeout(s.ctx, s.cfg.ConnectTimeout)
	defer cancel()
	session, err := s.sessionFor(ctx, c, key, apiKey, clean)
	if err != nil {
		if messages.CodeOf(err) == messages.CodeExhausted {
			s.announce(c, credentials{username: key.username, clientID: key.clientID}, c.downlinks.Application, err)
			return s.refuse(c, "max_sessions", packets.ErrServerUnavailable), true
		}
		s.log.Warn("MQTT login refused since the session can't be read or written", "client_id", shown(key.clientID), "err", err)
		return s.refuse(c, "unavailable", packets.ErrServerUnavailable), true
	}
	s.mu.Lock()
	if s.closed || s.revocations.Load() != revocations {
		closed := s.closed
		s.mu.Unlock()
		return packets.ErrServerUnavailable, closed
	}
	var given *client
	former := s.sessions[key]
	if former != nil && former != session {
		given = s.forget(former)
	}
	s.sessions[key] = session
	s.byID[key.documentID()] = session
	if old := session.bind(c); old != nil {
		given = old
	}
	stop(s.wills[key])
	delete(s.wills, key)
	c.session = session
	s.mu.Unlock()
	if former != nil && former != session {
		s.release(former)
	}
	if given != nil {
		s.metrics.ended.WithLabelValues("taken_over").Inc()
		given.leave(reasonTakenOver)
	}
	if session.subscribed() > 0 {
		err = s.feedTo(ctx, session)
	}
	if err != nil {
		s.log.Warn("MQTT login refused since the log can't be read", "client_id", shown(key.clientID), "err", err)
		return s.refuse(c, "unavailable", packets.ErrServerUnavailable), true
	}
	s.doorkeeper.known(c.guest)
	s.log.Debug("MQTT client logged in", "application_id", session.app.id, "client_id", shown(key.clientID), "remote", c.guest.host, "session_present", c.present)
	return packets.CodeSuccess, true
}

// feedTo makes the events of the application come to the session's subscriptions.
func (s *Server) feedTo(ctx context.Context, session *session) error {
	session.app.mu.Lock()
	fed := session.fed
	session.app.mu.Unlock()
	if fed {
		return nil
	}
	if err := s.use(ctx, session.app); err != nil {
		return err
	}
	if !session.app.attach(session) {
		s.disuse(session.app)
	}
	return nil
}

// sessionFor finds the session of a client, or makes one, and makes it durable if it is to be kept.
func (s *Server) sessionFor(ctx context.Context, c *client, key sessionKey, apiKey string, clean bool) (*session, error) {
	s.mu.Lock()
	here := s.sessions[key]
	s.mu.Unlock()
	if here != nil && !clean {
		err := errTakenOver
		if c.mayResume(here.subscribed()) {
			err = s.settle(ctx, here, c.sessionExpiry())
		}
		if !errors.Is(err, errTakenOver) {
			c.present = true
			return here, err
		}
		s.drop(here, reasonTakenOver) // perhaps by another node, which has closed the connection since, or will be closed
	}
	for tries := 1; ; tries++ {
		session, err := s.takeOver(ctx, c, key, apiKey, clean)
		if !errors.Is(err, errTakenOver) || tries == takeOverTries {
			return session, err
		}
	}
}

// takeOver makes the session of a client that is not here from what is stored of it. errTakenOver: the store changed meanwhile.
func (s *Server) takeOver(ctx context.Context, c *client, key sessionKey, apiKey string, clean bool) (*session, error) {
	expiry := c.sessionExpiry()
	doc, revision, exists, err := s.find(ctx, key)
	if err != nil {
		return nil, err
	}
	app, _ := parseUsername(key.username)
	session := newSession(key, apiKey, s.application(app), s)
	session.stored.exists, session.stored.revision = revision != 0, revision
	session.stored.generation.Store(doc.Generation)
	c.present = exists && !clean && !doc.expired(time.Now(), s.began) && c.mayResume(len(doc.Subscriptions))
	if !c.present && expiry > 0 && !exists {
		err = s.kept.room(app, sessionsPerConnection*s.cfg.MaxConnections)
	}
	switch {
	case err != nil:
	case c.present:
		err = session.restore(ctx, doc)
	case exists:
		err = s.cfg.Store.DeleteCursor(ctx, key.cursorName())
	}
	if err != nil {
		return nil, err
	}
	return session, s.settle(ctx, session, expiry)
}

// mayResume says whether the client may go on with a session that has so many subscriptions. Its key may have lost the right to read since it made them.
func (c *client) mayResume(subscriptions int) bool { return subscriptions == 0 || c.canRead.Load() }

func (s *Server) application(id string) *application {
	if v, ok := s.apps.Load(id); ok {
		return v.(*application)
	}
	v, _ := s.apps.LoadOrStore(id, newApplication(id))
	return v.(*application)
}

// settle writes whose the session is, or takes it out of the store if it is not to be kept. errTakenOver: the store has not what we know of it.
func (s *Server) settle(ctx context.Context, session *session, expiry time.Duration) error {
	if expiry == 0 {
		if err := session.erase(ctx); errors.Is(err, messages.ErrConflict) {
			return errTakenOver
		} else if err != nil {
			return err
		}
		return nil
	}
	session.stored.mu.Lock()
	defer session.stored.mu.Unlock()
	before := session.stored.generation.Load()
	session.stored.generation.Store(before + 1)
	fresh := !session.stored.exists
	if err := session.save(ctx, session.document(nil, expiry)); err != nil {
		session.stored.generation.Store(before)
		return err
	}
	if fresh {
		s.kept.add(session.app.id, 1)
	}
	session.stored.durable.Store(true)
	return nil
}

// forget takes a session out of memory and returns its connection, which is to be ended. s.mu is held; release is to be called without it.
func (s *Server) forget(session *session) *client {
	s.remove(session)
	return session.end()
}

// release ends the subscriptions of a session that was forgotten.
func (s *Server) release(session *session) {
	if session.app.leave(session) {
		s.disuse(session.app)
	}
}

// remove takes a session out of the tables. s.mu is held.
func (s *Server) remove(session *session) {
	if s.sessions[session.key] == session {
		delete(s.sessions, session.key)
		delete(s.byID, session.key.documentID())
	}
}

// drop ends a session and its connection, and what its client wanted to be done after its end. Unless it goes on elsewhere, it is removed from the store.
func (s *Server) drop(session *session, reason byte) {
	s.mu.Lock()
	c := s.forget(session)
	stop(s.wills[session.key])
	delete(s.wills, session.key)
	if c != nil {
		c.left = true
	}
	s.mu.Unlock()
	s.release(session)
	if c != nil {
		c.leave(reason)
	}
	if reason != reasonTakenOver {
		s.inBackground(func(context.Context) { s.eraseDropped(session) })
	}
}

func (s *Server) eraseDropped(session *session) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.ctx), storeTimeout)
	defer cancel()
	if err := session.erase(ctx); err != nil && !errors.Is(err, messages.ErrConflict) {
		s.log.Warn("MQTT session is left in the store; it will be removed later", "client_id", shown(session.key.clientID), "err", err)
	}
}

// ended is called when a connection is over. The session goes with it, or waits for the client for its time.
func (s *Server) ended(c *client) {
	_ = c.Close()
	if c.wasSlow() {
		s.metrics.ended.WithLabelValues("slow").Inc()
		s.log.Warn("MQTT client is disconnected since it does not read fast enough; give it fewer topics or a faster link", "remote", c.guest.host)
	}
	if c.protocol == nil {
		return
	}
	// The library keeps clients whose session does not end; here it never has one.
	s.mqtt.UnsubscribeClient(c.protocol)
	s.mqtt.Clients.Delete(c.protocol.ID)
	session := c.session
	if session == nil {
		return
	}
	defer s.turns.take(session.key)()
	s.mu.Lock()
	if !s.closed {
		s.carryOutWill(c)
	}
	if !session.unbind(c) {
		s.mu.Unlock()
		return
	}
	wait := c.sessionExpiry()
	if wait == 0 {
		_ = s.forget(session)
		s.mu.Unlock()
		s.release(session)
		s.eraseDropped(session)
		return
	}
	s.mu.Unlock()
	s.park(session, wait)
}

// park leaves the session to the store. If that fails, the store has it as it was: its client gets again what it has confirmed since.
func (s *Server) park(session *session, expiry time.Duration) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.ctx), storeTimeout)
	defer cancel()
	if session.app.detach(session) {
		s.disuse(session.app)
	}
	err := session.saveCursor(ctx)
	if err == nil {
		err = session.sayGoodBye(ctx, expiry)
	}
	if err != nil && !errors.Is(err, errTakenOver) {
		s.log.Warn("the end of an MQTT connection can't be noted; its client may get events again", "client_id", shown(session.key.clientID), "err", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.remove(session)
}

// sessionExpiry is how long the session is to be kept without a connection.
func (c *client) sessionExpiry() time.Duration {
	p := c.protocol.Properties
	if c.v5 {
		return min(time.Duration(p.Props.SessionExpiryInterval)*time.Second, c.maxExpiry)
	}
	if p.Clean {
		return 0
	}
	return c.maxExpiry
}

func stop(t *time.Timer) {
	if t != nil {
		t.Stop()
	}
}

// turns lets the logins and ends of one session come one after the other.
type turns [256]sync.Mutex

func (t *turns) take(key sessionKey) (done func()) {
	h := fnv.New32a()
	for _, part := range []string{key.keyID, key.username, key.clientID} {
		_, _ = h.Write([]byte(part))
	}
	m := &t[h.Sum32()%uint32(len(t))]
	m.Lock()
	return m.Unlock
}
