package main

import (
	"slices"
	"sync"
	"time"

	"lorikeet/messages"
)

const (
	pathRepeat = 30 * time.Second // nodes that came later hear of a path within this time
	pathExpiry = 10 * time.Minute // as the door for radio gateways does
)

// paths knows at which node the downlink path of each radio gateway ends: the one that got its last PULL_DATA. Radio gateways move when a balancer
// sends them elsewhere or their node is gone.
type paths struct {
	self  string
	tell  func(body []byte) // all other nodes, at best effort
	clock func() time.Time

	mu     sync.Mutex
	known  map[messages.EUI64]path
	outbox []messages.EUI64
	wake   chan struct{}
	done   chan struct{}
	once   sync.Once
	ended  chan struct{}
}

type path struct {
	node string
	at   time.Time // when it was heard of last
	told time.Time // when this node told the others
}

func startPaths(self string, clock func() time.Time, tell func(body []byte)) *paths {
	p := &paths{self: self, tell: tell, clock: clock, known: map[messages.EUI64]path{}, wake: make(chan struct{}, 1), done: make(chan struct{}), ended: make(chan struct{})}
	go p.run()
	return p
}

// pulled notes that a radio gateway has its path here. It is called by the door's read loop.
func (p *paths) pulled(eui messages.EUI64) {
	now := p.clock()
	p.mu.Lock()
	defer p.mu.Unlock()
	was := p.known[eui]
	is := path{node: p.self, at: now, told: was.told}
	if was.node != p.self || now.Sub(was.told) >= pathRepeat {
		is.told = now
		p.outbox = append(p.outbox, eui)
		select {
		case p.wake <- struct{}{}:
		default:
		}
	}
	p.known[eui] = is
}

func (p *paths) run() {
	defer close(p.ended)
	for {
		select {
		case <-p.done:
			return
		case <-p.wake:
		}
		p.mu.Lock()
		euis := p.outbox
		p.outbox = nil
		p.mu.Unlock()
		for part := range slices.Chunk(euis, 500) {
			body := make([]byte, 0, 8*len(part))
			for _, eui := range part {
				body = append(body, eui[:]...)
			}
			p.tell(body)
		}
	}
}

// heard takes over what another node told.
func (p *paths) heard(node string, body []byte) {
	now := p.clock()
	p.mu.Lock()
	defer p.mu.Unlock()
	for eui := range slices.Chunk(body, 8) {
		if len(eui) == 8 {
			p.known[messages.EUI64(eui)] = path{node: node, at: now}
		}
	}
	if len(p.known) > 1_000_000 { // forged EUIs must not fill the memory
		for eui, e := range p.known {
			if now.Sub(e.at) > pathRepeat*2 {
				delete(p.known, eui)
			}
		}
	}
}

// nodeOf says at which node the path of a radio gateway ends; false if that is not known.
func (p *paths) nodeOf(eui messages.EUI64) (string, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	e, ok := p.known[eui]
	if !ok || p.clock().Sub(e.at) > pathExpiry {
		return "", false
	}
	return e.node, true
}

// here is the number of radio gateways whose path ends at this node.
func (p *paths) here() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for _, e := range p.known {
		if e.node == p.self && p.clock().Sub(e.at) <= pathExpiry {
			n++
		}
	}
	return n
}

// retell has all paths told again: a node has come that knows none.
func (p *paths) retell() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for eui, e := range p.known {
		if e.node == p.self && p.clock().Sub(e.at) <= pathExpiry {
			p.outbox = append(p.outbox, eui)
		}
	}
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

func (p *paths) stop() {
	p.once.Do(func() { close(p.done) })
	<-p.ended
}
