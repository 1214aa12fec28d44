package node

import (
	"sync"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"lorikeet/messages"
	"lorikeet/messages/wire"
)

const (
	framePause = 50 * time.Millisecond // before a frame that was refused is tried again
	frameLimit = 10 * time.Second      // after which a frame is of no use any more
)

// frames are the Tracked messages that this node has taken in and whose devices live elsewhere.
type frames struct {
	mu     sync.Mutex
	next   uint64
	kept   map[uint64]*frame
	closed bool
}

// put takes a frame in, unless the node has ended.
func (s *frames) put(f *frame) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	if f.id == 0 {
		s.next++
		f.id = s.next<<1 | 1
	}
	if s.kept == nil {
		s.kept = map[uint64]*frame{}
	}
	s.kept[f.id] = f
	return true
}

type frame struct {
	id      uint64
	device  messages.DeviceID
	message Tracked
	kind    string // empty: not encoded yet
	body    []byte
	to      string        // ID of the node it was sent to; empty: of none
	wait    time.Duration // for the answer, the next time
	due     time.Duration // when it is tried again
	until   time.Duration
}

// keep takes responsibility for a frame until it is settled.
func (n *Node) keep(id messages.DeviceID, m Tracked) {
	f := &frame{device: id, message: m, wait: repeatAfter, until: n.now() + frameLimit}
	if !n.frames.put(f) {
		m.Settle()
		return
	}
	n.try(f.id)
}

// try brings a kept frame to whom the table says.
func (n *Node) try(id uint64) {
	s := &n.frames
	s.mu.Lock()
	f := s.kept[id]
	if f == nil {
		s.mu.Unlock()
		return
	}
	now := n.now()
	if now >= f.until {
		delete(s.kept, id)
		s.mu.Unlock()
		n.metrics.givenUp.Inc()
		n.log.Warn("frame is given up: its device was not reached", "application_id", f.device.ApplicationID, "device_id", f.device.DeviceID)
		f.message.Settle()
		return
	}
	shard := deviceShard(f.device)
	t := n.table.Load()
	p := t.owners[shard]
	f.to, f.due = "", now+framePause
	switch {
	case p == nil:
	case t.owns(shard):
		delete(s.kept, id)
		s.mu.Unlock()
		if (!n.members.fit() || !n.local.Deliver(f.device, f.message)) && !s.put(f) {
			f.message.Settle()
		}
		return
	default:
		if f.kind == "" {
			var err error
			if f.kind, f.body, err = n.cfg.Codec.Encode(f.message); err != nil {
				delete(s.kept, id)
				s.mu.Unlock()
				n.refused(f, err)
				return
			}
		}
		f.to, f.due, f.wait = p.ID, now+f.wait, 2*f.wait
		n.system.Root.RequestWithCustomSender(actor.NewPID(p.Address, keeperOf(shard)),
			&wire.DeviceMessage{Id: f.id, ApplicationId: f.device.ApplicationID, DeviceId: f.device.DeviceID, Kind: f.kind, Body: f.body}, n.answers)
	}
	s.mu.Unlock()
}

func (n *Node) refused(f *frame, err error) {
	n.metrics.givenUp.Inc()
	n.log.Warn("frame is given up: it can't be sent to the node of its device", "application_id", f.device.ApplicationID, "device_id", f.device.DeviceID, "err", err)
	f.message.Settle()
}

// frameAnswered ends a frame, or has it tried again soon if nothing was done with it.
func (n *Node) frameAnswered(a *wire.Answer) {
	s := &n.frames
	s.mu.Lock()
	f := s.kept[a.Id]
	if f == nil {
		s.mu.Unlock()
		return
	}
	if a.Moved {
		f.to, f.due = "", n.now()+framePause
		s.mu.Unlock()
		n.metrics.moved.Inc()
		return
	}
	delete(s.kept, a.Id)
	s.mu.Unlock()
	if a.Error != nil {
		n.refused(f, fromWire(a.Error))
		return
	}
	f.message.Settle()
}

// drop makes the frames due that were sent to nodes which are no members any more.
func (s *frames) drop(t *table, now time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.kept {
		if f.to != "" && t.byID[f.to] == nil {
			f.to, f.due = "", now
		}
	}
}

// resend tries again what is due.
func (n *Node) resend() {
	tick := time.NewTicker(framePause / 2)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-n.ctx.Done():
			return
		}
		for _, id := range n.frames.dueAt(n.now()) {
			n.metrics.resent.Inc()
			n.try(id)
		}
	}
}

func (s *frames) dueAt(now time.Duration) []uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []uint64
	for id, f := range s.kept {
		if now >= f.due || now >= f.until {
			out = append(out, id)
		}
	}
	return out
}

func (s *frames) len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.kept)
}

// settleAll gives every frame up, at the end of the node.
func (s *frames) settleAll() {
	s.mu.Lock()
	kept := s.kept
	s.kept, s.closed = nil, true
	s.mu.Unlock()
	for _, f := range kept {
		f.message.Settle()
	}
}
