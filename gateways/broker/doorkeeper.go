package broker

import (
	"io"
	"net"
	"sync"
)

const (
	maxUnknown        = 2048 // connections that have not logged in
	maxUnknownPerHost = 1024
)

// guest is someone who came through a door, from the first moment on.
type guest struct {
	host string // address without port

	// Guarded by the doorkeeper.
	known bool      // has logged in
	line  io.Closer // what ends its connection
}

func newGuest(socket net.Conn) *guest {
	host, _, _ := net.SplitHostPort(socket.RemoteAddr().String())
	return &guest{host: host, line: socket}
}

// doorkeeper knows all open connections and refuses those that are too many.
type doorkeeper struct {
	max, maxPerHost int

	mu        sync.Mutex
	open      map[*guest]struct{}
	hosts     map[string]*guests
	guests    guests
	closed    bool
	suspended bool
}

// guests counts connections, and those of them that have not logged in.
type guests struct{ all, unknown int }

func newDoorkeeper(limit int) *doorkeeper {
	return &doorkeeper{max: limit, maxPerHost: max(1, limit/2), open: map[*guest]struct{}{}, hosts: map[string]*guests{}}
}

// enter lets a connection in, or says why not.
func (d *doorkeeper) enter(g *guest) (refused string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	host := d.hosts[g.host]
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
	d.hosts[g.host] = host
	d.open[g] = struct{}{}
	for _, n := range []*guests{host, &d.guests} {
		n.all++
		n.unknown++
	}
	return ""
}

// seat says by what the connection is to be ended from now on; false if it is to end at once.
func (d *doorkeeper) seat(g *guest, line io.Closer) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	g.line = line
	_, in := d.open[g]
	return in && !d.closed && !d.suspended
}

// known notes that the guest has logged in.
func (d *doorkeeper) known(g *guest) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, in := d.open[g]; !in || g.known {
		return
	}
	g.known = true
	d.guests.unknown--
	d.hosts[g.host].unknown--
}

func (d *doorkeeper) leave(g *guest) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, in := d.open[g]; !in {
		return
	}
	delete(d.open, g)
	host := d.hosts[g.host]
	for _, n := range []*guests{host, &d.guests} {
		n.all--
		if !g.known {
			n.unknown--
		}
	}
	if host.all == 0 {
		delete(d.hosts, g.host)
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
	lines := make([]io.Closer, 0, len(d.open))
	for g := range d.open {
		lines = append(lines, g.line)
	}
	d.mu.Unlock()
	for _, line := range lines {
		_ = line.Close()
	}
}
