package broker

import (
	"container/list"
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
	known      bool          // has logged in
	line       io.Closer     // what ends its connection
	ofHost, of *list.Element // among those who have not logged in
}

func newGuest(socket net.Conn) *guest {
	host, _, _ := net.SplitHostPort(socket.RemoteAddr().String())
	return &guest{host: host, line: socket}
}

// doorkeeper knows all open connections and refuses those that are too many. Who has not logged in makes room for who comes later: a client logs in at
// once, so a crowd that says nothing keeps nobody out.
type doorkeeper struct {
	max, maxPerHost int

	mu        sync.Mutex
	open      map[*guest]struct{}
	hosts     map[string]*guests
	guests    guests
	closed    bool
	suspended bool
}

// guests counts connections, and keeps those of them that have not logged in, the oldest first.
type guests struct {
	all     int
	unknown list.List
}

func newDoorkeeper(limit int) *doorkeeper {
	return &doorkeeper{max: limit, maxPerHost: max(1, limit/2), open: map[*guest]struct{}{}, hosts: map[string]*guests{}}
}

// enter lets a connection in, or says why not. It may put out another one that has not logged in yet, whose line is to be closed.
func (d *doorkeeper) enter(g *guest) (refused string, out io.Closer) {
	d.mu.Lock()
	defer d.mu.Unlock()
	host := d.hosts[g.host]
	if host == nil {
		host = &guests{}
	}
	var last *list.Element // who has to go
	switch {
	case d.closed:
		return "closing", nil
	case d.suspended:
		return "suspended", nil
	case host.all >= d.maxPerHost:
		if last = host.unknown.Front(); last == nil {
			return "max_connections_of_address", nil
		}
	case d.guests.all >= d.max:
		if last = d.guests.unknown.Front(); last == nil {
			return "max_connections", nil
		}
	case host.unknown.Len() >= maxUnknownPerHost:
		last = host.unknown.Front()
	case d.guests.unknown.Len() >= maxUnknown:
		last = d.guests.unknown.Front()
	}
	if last != nil {
		gone := last.Value.(*guest)
		out = gone.line
		d.remove(gone)
	}
	d.hosts[g.host] = host
	d.open[g] = struct{}{}
	host.all++
	d.guests.all++
	g.ofHost, g.of = host.unknown.PushBack(g), d.guests.unknown.PushBack(g)
	return "", out
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
	d.identify(g)
}

// identify takes a guest from those who have not logged in. d.mu is held.
func (d *doorkeeper) identify(g *guest) {
	if g.of != nil {
		d.guests.unknown.Remove(g.of)
		d.hosts[g.host].unknown.Remove(g.ofHost)
		g.of, g.ofHost = nil, nil
	}
}

func (d *doorkeeper) leave(g *guest) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.remove(g)
}

func (d *doorkeeper) remove(g *guest) {
	if _, in := d.open[g]; !in {
		return
	}
	d.identify(g)
	delete(d.open, g)
	d.guests.all--
	if host := d.hosts[g.host]; host.all > 1 {
		host.all--
	} else {
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
