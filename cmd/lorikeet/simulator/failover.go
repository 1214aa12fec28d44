package simulator

import (
	"bytes"
	"net"
	"slices"
	"time"
)

// ackTimeout is how long a radio gateway with several servers waits for a PUSH_ACK or PULL_ACK before it moves to the next.
const ackTimeout = 750 * time.Millisecond

// resendFor bounds the age of PUSH_DATA that is sent again: while no server answers, older frames are given up.
const resendFor = 10 * time.Second

// link is the two sockets of a packet forwarder, as the real one has them.
type link struct {
	server     int // index of Gateway.servers
	push, pull *net.UDPConn
}

func dialLink(server *net.UDPAddr) (*link, error) {
	push, err := net.DialUDP("udp", nil, server)
	if err != nil {
		return nil, err
	}
	pull, err := net.DialUDP("udp", nil, server)
	if err != nil {
		_ = push.Close()
		return nil, err
	}
	for _, c := range [2]*net.UDPConn{push, pull} {
		_ = c.SetReadBuffer(1 << 20) // best effort: the kernel's limit may be lower
	}
	return &link{push: push, pull: pull}, nil
}

func (l *link) close() {
	_ = l.push.Close()
	_ = l.pull.Close()
}

// open starts to use l.
func (g *Gateway) open(l *link) {
	g.link.Store(l)
	g.wg.Add(2)
	go g.readPush(l.push)
	go g.readPull(l.pull)
}

// waiting is what the present server has not answered yet. Its zero value is ready to use.
type waiting struct {
	pushes []unacknowledged // oldest first
	pull   time.Time        // of the first PULL_DATA without an answer; zero: none
}

type unacknowledged struct {
	token    uint16
	made     time.Time
	sent     time.Time // to the present server
	datagram []byte
}

func (w *waiting) push(token uint16, datagram []byte, now time.Time) {
	w.pushes = append(w.pushes, unacknowledged{token: token, made: now, sent: now, datagram: bytes.Clone(datagram)})
}

func (w *waiting) acknowledged(token uint16) {
	w.pushes = slices.DeleteFunc(w.pushes, func(u unacknowledged) bool { return u.token == token })
}

// silent says whether the present server owes an answer for too long.
func (w *waiting) silent(now time.Time) bool {
	return !w.pull.IsZero() && now.Sub(w.pull) > ackTimeout || len(w.pushes) > 0 && now.Sub(w.pushes[0].sent) > ackTimeout
}

// moveIfSilent goes to the next server if the present one does not answer, as a packet forwarder behind a balancer does: with new sockets, with the
// downlink path, and with the frames that were not acknowledged. Those may have been taken all the same: then the servers see them twice.
func (g *Gateway) moveIfSilent(now time.Time) {
	g.mu.Lock()
	silent := g.waiting.silent(now)
	g.mu.Unlock()
	if !silent {
		return
	}
	old := g.link.Load()
	next := (old.server + 1) % len(g.servers)
	l, err := dialLink(g.servers[next])
	if err != nil {
		g.stats.sendErrors.Add(1) // e.g. no route: the next look tries again
		return
	}
	l.server = next
	g.stats.moves.Add(1)
	g.mu.Lock()
	g.open(l)
	g.waiting.pull = time.Time{}
	g.sendPullLocked() // first, so that answers to what follows find their way
	kept := g.waiting.pushes[:0]
	for _, u := range g.waiting.pushes {
		if g.cfg.Forget || now.Sub(u.made) > resendFor {
			g.stats.abandoned.Add(uint64(g.frames[u.token]))
			g.frames[u.token] = 0
			continue
		}
		u.sent = now
		g.write(l.push, u.datagram)
		kept = append(kept, u)
	}
	g.waiting.pushes = kept
	g.mu.Unlock()
	old.close()
}
