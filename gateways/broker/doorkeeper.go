package broker

import (
	"errors"
	"net"
	"runtime/debug"
	"sync"
	"time"
)

const (
	maxUnknown        = 2048 // connections that have not logged in
	maxUnknownPerHost = 1024
)

// doorkeeper knows all open connections and refuses those that are too many.
type doorkeeper struct {
	max, maxPerHost int

	mu        sync.Mutex
	open      map[*client]bool // false until the login
	hosts     map[string]*guests
	guests    guests
	closed    bool
	suspended bool
}

// guests counts connections, and those of them that have not logged in.
type guests struct{ all, unknown int }

func newDoorkeeper(limit int) *doorkeeper {
	return &doorkeeper{max: limit, maxPerHost: max(1, limit/2), open: map[*client]bool{}, hosts: map[string]*guests{}}
}

// enter lets a connection in, or says why not.
func (d *doorkeeper) enter(c *client) (refused string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	host := d.hosts[c.host]
	if host == nil {
		host = &guests{}
	}
	switch {
	case d.closed:
		return "closing"
	case d.suspended:
		return "suspended"
	case d.guests.all >= d.max:
		return "max_connections"
	case host.all >= d.maxPerHost:
		return "max_connections_of_address"
	case d.guests.unknown >= maxUnknown:
		return "max_not_logged_in"
	case host.unknown >= maxUnknownPerHost:
		return "max_not_logged_in_of_address"
	}
	d.hosts[c.host] = host
	d.open[c] = false
	for _, g := range []*guests{host, &d.guests} {
		g.all++
		g.unknown++
	}
	return ""
}

// known notes that the client has logged in.
func (d *doorkeeper) known(c *client) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if known, in := d.open[c]; !in || known {
		return
	}
	d.open[c] = true
	d.guests.unknown--
	d.hosts[c.host].unknown--
}

func (d *doorkeeper) leave(c *client) {
	d.mu.Lock()
	defer d.mu.Unlock()
	known, in := d.open[c]
	if !in {
		return
	}
	delete(d.open, c)
	host := d.hosts[c.host]
	for _, g := range []*guests{host, &d.guests} {
		g.all--
		if !known {
			g.unknown--
		}
	}
	if host.all == 0 {
		delete(d.hosts, c.host)
	}
}

func (d *doorkeeper) total() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.guests.all
}

// shut closes every connection and lets no more in until it is opened again.
func (d *doorkeeper) shut(shut bool) {
	d.mu.Lock()
	d.suspended = shut
	d.mu.Unlock()
	if shut {
		d.hangUp()
	}
}

// closeAll closes every connection and lets no more in.
func (d *doorkeeper) closeAll() {
	d.mu.Lock()
	d.closed = true
	d.mu.Unlock()
	d.hangUp()
}

func (d *doorkeeper) hangUp() {
	d.mu.Lock()
	clients := make([]*client, 0, len(d.open))
	for c := range d.open {
		clients = append(clients, c)
	}
	d.mu.Unlock()
	for _, c := range clients {
		_ = c.Close()
	}
}

// accept takes connections until the socket is closed.
func (s *Server) accept() {
	for {
		c, err := s.socket.Accept()
		switch {
		case err == nil:
			s.running.Go(func() { s.serve(c) })
		case errors.Is(err, net.ErrClosed):
			return
		default: // too many open files
			s.log.Warn("can't accept MQTT connections; trying again", "err", err)
			t := time.NewTimer(100 * time.Millisecond)
			select {
			case <-t.C:
			case <-s.ctx.Done():
				t.Stop()
			}
		}
	}
}

// serve runs one connection to its end. The library may panic on what a client sends (a SUBSCRIBE of MQTT 5 without options does it): only this
// connection ends then.
func (s *Server) serve(socket net.Conn) {
	c := &client{conn: newConn(socket, &s.memory, s.cfg.WriteBuffer, s.cfg.WriteTimeout, &s.running), metrics: s.metrics}
	c.host, _, _ = net.SplitHostPort(socket.RemoteAddr().String())
	if reason := s.doorkeeper.enter(c); reason != "" {
		s.metrics.refused.WithLabelValues(reason).Inc()
		_ = socket.Close()
		return
	}
	defer s.doorkeeper.leave(c)
	defer s.ended(c)
	defer func() {
		if p := recover(); p != nil {
			s.metrics.ended.WithLabelValues("panic").Inc()
			s.log.Warn("MQTT connection ended by a packet that the library can't read", "remote", c.host, "panic", p)
			s.log.Debug("where the MQTT library failed", "stack", string(debug.Stack()))
		}
	}()
	_ = c.Conn.SetReadDeadline(time.Now().Add(s.cfg.ConnectTimeout))
	err := s.mqtt.EstablishConnection(listenerName, c)
	if c.session == nil && err != nil {
		s.log.Debug("MQTT connection ended before its login", "remote", c.host, "err", err)
	}
}
