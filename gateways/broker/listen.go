package broker

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"runtime/debug"
	"time"

	"lorikeet/gateways"
)

// door is one socket that clients come through.
type door struct {
	name   string // "tcp", "tls", "ws" or "wss"; a metric label
	socket net.Listener
}

// openDoors listens on all configured addresses, or on none.
func (s *Server) openDoors() (err error) {
	defer func() {
		if err != nil {
			s.closeDoors()
		}
	}()
	var files *gateways.Certificates
	if s.cfg.TLS != (gateways.TLSFiles{}) {
		if files, err = gateways.OpenCertificates("MQTT", s.cfg.TLS, s.log); err != nil {
			return err
		}
	}
	for _, d := range []struct {
		name, address string
		tls           bool
	}{{"tcp", s.cfg.Listen, false}, {"tls", s.cfg.ListenTLS, true}, {"ws", s.cfg.ListenWebSocket, false}, {"wss", s.cfg.ListenWebSocketTLS, true}} {
		if d.address == "" {
			continue
		}
		if d.tls && files == nil {
			return fmt.Errorf("MQTT: %s needs a certificate and its key", d.address)
		}
		socket, err := net.Listen("tcp", d.address)
		if err != nil {
			return fmt.Errorf("MQTT: %w", err)
		}
		socket = &guardedListener{Listener: socket, server: s}
		if d.tls {
			socket = tls.NewListener(socket, files.Config())
		}
		s.doors = append(s.doors, door{d.name, socket})
		s.log.Info("MQTT is listening", "listener", d.name, "address", socket.Addr().String())
	}
	return nil
}

// serveDoors begins to take connections.
func (s *Server) serveDoors() {
	for _, d := range s.doors {
		if d.name == "ws" || d.name == "wss" {
			s.serveWebSocket(d)
			continue
		}
		s.running.Go(func() { s.accept(d.socket) })
	}
}

func (s *Server) closeDoors() {
	for _, d := range s.doors {
		_ = d.socket.Close()
	}
}

func (s *Server) addr(name string) string {
	for _, d := range s.doors {
		if d.name == name {
			return d.socket.Addr().String()
		}
	}
	return ""
}

// guardedListener lets in who the doorkeeper lets in, each with the time that it has to log in. All kinds of doors are built on it.
type guardedListener struct {
	net.Listener
	server *Server
}

// Accept waits for the next connection that may come in. It fails only once the socket is closed.
func (l *guardedListener) Accept() (net.Conn, error) {
	s := l.server
	for {
		socket, err := l.Listener.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			return nil, err
		case err != nil: // too many open files
			s.log.Warn("can't accept MQTT connections; trying again", "err", err)
			t := time.NewTimer(100 * time.Millisecond)
			select {
			case <-t.C:
			case <-s.ctx.Done():
				t.Stop()
			}
			continue
		}
		g := newGuest(socket)
		reason, out := s.doorkeeper.enter(g)
		if out != nil {
			s.metrics.ended.WithLabelValues("not_logged_in").Inc()
			_ = out.Close()
		}
		if reason != "" {
			s.metrics.refused.WithLabelValues(reason).Inc()
			_ = socket.Close()
			continue
		}
		_ = socket.SetDeadline(time.Now().Add(s.cfg.ConnectTimeout))
		return &admitted{Conn: socket, guest: g, keeper: s.doorkeeper}, nil
	}
}

// admitted is a socket that the doorkeeper knows; closing it tells the doorkeeper.
type admitted struct {
	net.Conn
	guest  *guest
	keeper *doorkeeper
}

func (a *admitted) Close() error {
	a.keeper.leave(a.guest)
	return a.Conn.Close()
}

// CloseWrite ends the stream to the client.
func (a *admitted) CloseWrite() error {
	if t, ok := a.Conn.(interface{ CloseWrite() error }); ok {
		return t.CloseWrite()
	}
	return net.ErrClosed
}

// SetLinger is that of the socket below.
func (a *admitted) SetLinger(seconds int) error {
	if t, ok := a.Conn.(*net.TCPConn); ok {
		return t.SetLinger(seconds)
	}
	return nil
}

// admittedBelow finds the socket that the doorkeeper knows under a connection.
func admittedBelow(c net.Conn) *admitted {
	for {
		switch below := c.(type) {
		case *admitted:
			return below
		case interface{ NetConn() net.Conn }:
			c = below.NetConn()
		default:
			return nil
		}
	}
}

// accept takes connections until the socket is closed.
func (s *Server) accept(socket net.Listener) {
	for {
		c, err := socket.Accept()
		if err != nil {
			return
		}
		s.running.Go(func() { s.serve(c, admittedBelow(c).guest) })
	}
}

// serve runs one connection to its end. Should the library panic on what a client sends, only this connection ends.
func (s *Server) serve(socket net.Conn, g *guest) {
	c := &client{conn: newConn(socket, &s.memory, s.cfg.WriteBuffer, s.cfg.WriteTimeout, &s.running), metrics: s.metrics, guest: g}
	defer s.doorkeeper.leave(g)
	defer s.ended(c)
	defer func() {
		if p := recover(); p != nil {
			s.metrics.ended.WithLabelValues("panic").Inc()
			s.log.Warn("MQTT connection ended by a packet that the library can't read", "remote", g.host, "panic", p)
			s.log.Debug("where the MQTT library failed", "stack", string(debug.Stack()))
		}
	}()
	if !s.doorkeeper.seat(g, c) {
		return
	}
	_ = c.Conn.SetReadDeadline(time.Now().Add(s.cfg.ConnectTimeout))
	if t, ok := socket.(*tls.Conn); ok {
		_ = t.SetWriteDeadline(time.Now().Add(s.cfg.ConnectTimeout))
		if err := t.Handshake(); err != nil {
			s.metrics.refused.WithLabelValues("tls").Inc()
			s.log.Debug("MQTT connection ended by its TLS handshake", "remote", g.host, "err", err)
			return
		}
	}
	err := s.mqtt.EstablishConnection(listenerName, c)
	var broke *violation
	switch {
	case errors.As(err, &broke):
		s.metrics.ended.WithLabelValues("protocol_error").Inc()
		s.log.Debug("MQTT connection ended since its client broke the rules", "remote", g.host, "err", err)
	case c.session == nil && err != nil:
		s.log.Debug("MQTT connection ended before its login", "remote", g.host, "err", err)
	}
}
