package broker

import (
	"context"
	"errors"
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
	// maxSessionExpiry is how long a session waits for its client at most, in seconds.
	maxSessionExpiry = 24 * 3600
	// sessionsPerConnection limits the sessions that are kept, as a multiple of MaxConnections.
	sessionsPerConnection = 2

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
	if !ok {
		return s.refuse(c, "username", packets.ErrBadUsernameOrPassword)
	}
	key := sessionKey{username: string(pk.Connect.Username), clientID: cl.ID}
	for {
		revocations := s.revocations.Load()
		session := newSession(key, string(pk.Connect.Password), &s.kept)
		read, write, err := s.rights(s.ctx, session)
		switch {
		case messages.CodeOf(err) == messages.CodeUnavailable:
			return s.refuse(c, "unavailable", packets.ErrServerUnavailable)
		case err != nil:
			return s.refuse(c, "credentials", packets.ErrBadUsernameOrPassword)
		case !read && !write:
			return s.refuse(c, "rights", packets.ErrBadUsernameOrPassword)
		}
		c.canRead.Store(read)
		c.canWrite.Store(write)
		if code := s.takeWill(c, cl, session.key.username); code != packets.CodeSuccess {
			return s.refuse(c, "will", code)
		}
		s.describe(c, cl, pk, app)
		if code, done := s.enter(c, session, app, pk.Connect.Clean, revocations); done {
			return code
		}
	}
}

func (s *Server) refuse(c *client, reason string, code packets.Code) packets.Code {
	s.metrics.refused.WithLabelValues(reason).Inc()
	s.log.Debug("MQTT login refused", "reason", reason, "remote", c.guest.host)
	return code
}

// rights asks what the key of the session may do now; it sets the id of the key.
func (s *Server) rights(ctx context.Context, session *session) (read, write bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.ConnectTimeout)
	defer cancel()
	access, err := s.cfg.Authorize(ctx, session.apiKey)
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		err = messages.Errorf(messages.CodeUnavailable, "unavailable", "authorize: %w", err)
	}
	if err != nil {
		return false, false, err
	}
	app, _ := parseUsername(session.key.username)
	if !s.cfg.ApplicationExists(app) {
		return false, false, messages.NotFound("application_not_found", "application %s does not exist", app)
	}
	if session.key.keyID == "" {
		session.key.keyID = access.KeyID
	}
	return access.Can(app, messages.RightApplicationTrafficRead), access.Can(app, messages.RightApplicationTrafficDownWrite), nil
}

// describe takes from CONNECT what the client's side is like, and mends what the library would get wrong.
func (s *Server) describe(c *client, cl *mqtt.Client, pk packets.Packet, app string) {
	c.protocol, c.v5 = cl, pk.ProtocolVersion == 5
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
	c.downlinks = &gateways.DownlinkDoor{Application: app, Provider: "broker", Downlinks: s.cfg.Downlinks, Logger: s.log, Input: s.cfg.Input, SenderRepeats: true}
}

// enter makes c the connection of its session. Not done: rights were revoked meanwhile, so ask again.
func (s *Server) enter(c *client, fresh *session, app string, clean bool, revocations int64) (code packets.Code, done bool) {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return packets.ErrServerUnavailable, true
	}
	if s.revocations.Load() != revocations {
		s.mu.Unlock()
		return code, false
	}
	session := s.sessions[fresh.key]
	var given *client
	if session != nil && clean {
		given = s.forget(session)
		session = nil
	}
	c.present = session != nil
	if session == nil {
		if len(s.sessions) >= sessionsPerConnection*s.cfg.MaxConnections {
			s.mu.Unlock()
			return s.refuse(c, "max_sessions", packets.ErrServerUnavailable), true
		}
		v, _ := s.apps.LoadOrStore(app, newApplication())
		session = fresh
		session.app = v.(*application)
		s.sessions[session.key] = session
	}
	if old := session.bind(c); old != nil {
		given = old
	}
	c.session = session
	s.mu.Unlock()
	if given != nil {
		s.metrics.ended.WithLabelValues("taken_over").Inc()
		given.leave(reasonTakenOver)
	}
	s.doorkeeper.known(c.guest)
	s.log.Debug("MQTT client logged in", "application_id", app, "client_id", shown(session.key.clientID), "remote", c.guest.host, "session_present", c.present)
	return packets.CodeSuccess, true
}

// forget takes a session out of the server and returns its connection, which is to be ended. s.mu is held.
func (s *Server) forget(session *session) *client {
	if s.sessions[session.key] == session {
		delete(s.sessions, session.key)
	}
	session.app.leave(session)
	return session.end()
}

// drop ends a session and its connection, and what its client wanted to be done after its end.
func (s *Server) drop(session *session, reason byte) {
	s.mu.Lock()
	c := s.forget(session)
	session.mu.Lock()
	stop(session.will)
	session.mu.Unlock()
	if c != nil {
		c.left = true
	}
	s.mu.Unlock()
	if c != nil {
		c.leave(reason)
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
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.carryOutWill(c)
	}
	if !session.unbind(c) {
		return
	}
	wait := c.sessionExpiry()
	if wait == 0 || s.closed {
		s.forget(session)
		return
	}
	session.mu.Lock()
	defer session.mu.Unlock()
	session.expiry = time.AfterFunc(wait, func() { s.expire(session) })
}

// expire drops a session whose client did not come back.
func (s *Server) expire(session *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	session.mu.Lock()
	back := session.client != nil
	session.mu.Unlock()
	if !back {
		s.forget(session)
	}
}

// sessionExpiry is how long the session is to be kept without a connection.
func (c *client) sessionExpiry() time.Duration {
	p := c.protocol.Properties
	seconds := uint32(0)
	if c.v5 {
		seconds = min(p.Props.SessionExpiryInterval, maxSessionExpiry)
	} else if !p.Clean {
		seconds = maxSessionExpiry
	}
	return time.Duration(seconds) * time.Second
}
