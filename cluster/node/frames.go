package node

import (
	"errors"
	"slices"
	"sync"
	"time"

	"lorikeet/messages"
	"lorikeet/messages/wire"
)

const (
	framePause    = 25 * time.Millisecond // before a frame that was refused is tried again, at first
	framePauseMax = 400 * time.Millisecond
)

// frames are the messages that this node has taken in and whose devices live elsewhere, or can't be served here at the moment. Most are Tracked;
// another is delivered here later, or sent once. Those of one device go in the order in which they came: a device that saw the later FCntUp first would
// refuse the earlier one.
type frames struct {
	mu     sync.Mutex
	next   uint64
	kept   map[uint64]*frame
	lines  map[messages.DeviceID][]*frame // the kept ones of each device, in order
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
		s.kept, s.lines = map[uint64]*frame{}, map[messages.DeviceID][]*frame{}
	}
	s.kept[f.id] = f
	s.lines[f.device] = append(s.lines[f.device], f)
	return true
}

// remove takes a frame out; frames is locked.
func (s *frames) remove(f *frame) {
	delete(s.kept, f.id)
	line := s.lines[f.device]
	if i := slices.Index(line, f); i >= 0 {
		line = slices.Delete(line, i, i+1)
	}
	if len(line) == 0 {
		delete(s.lines, f.device)
		return
	}
	s.lines[f.device] = line
}

// mayGo says whether all earlier frames of the device are on their way to the same node, the same way; frames is locked.
func (s *frames) mayGo(f *frame, to string, around bool) bool {
	for _, earlier := range s.lines[f.device] {
		if earlier == f {
			return true
		}
		if earlier.to != to || to == "" || earlier.around != around {
			return false
		}
	}
	return true
}

// holds says whether messages of a device are kept, behind which others must wait.
func (s *frames) holds(id messages.DeviceID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.lines[id]) > 0
}

type frame struct {
	id      uint64
	device  messages.DeviceID
	message any
	kind    string // empty: not encoded yet
	body    []byte
	to      string        // ID of the node it was sent to; empty: of none
	around  bool          // through NATS
	wait    time.Duration // for the answer, the next time
	pause   time.Duration // after a refusal, the next time
	due     time.Duration // when it is tried again
	until   time.Duration
}

// settle tells who waits for the frame that it needs no more work.
func (f *frame) settle() {
	if t, ok := f.message.(Tracked); ok {
		t.Settle()
	}
}

// refused has the frame tried again, after a pause that grows.
func (f *frame) refused(now time.Duration) {
	f.to, f.due, f.pause = "", now+f.pause, min(2*f.pause, framePauseMax)
}

// keep takes responsibility for a message until it is settled.
func (n *Node) keep(id messages.DeviceID, m any) {
	f := &frame{device: id, message: m, wait: repeatAfter, pause: framePause, until: n.now() + n.cfg.SuspendLimit}
	if !n.frames.put(f) {
		f.settle()
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
	shard := deviceShard(f.device)
	t := n.table.Load()
	p := t.owners[shard]
	_, tracked := f.message.(Tracked)
	around := p != nil && n.detours.on(p.ID)
	switch {
	case now >= f.until:
		s.remove(f)
		s.mu.Unlock()
		n.giveUp(f, errNotReached)
	case p == nil:
		f.refused(now)
		s.mu.Unlock()
	case t.owns(shard):
		f.refused(now)
		// Delivered under the lock, so that no later message of the device comes in between.
		if s.mayGo(f, "", false) && n.members.fit() && n.local.Deliver(f.device, f.message) {
			s.remove(f)
		}
		s.mu.Unlock()
	case !s.mayGo(f, p.ID, around):
		f.to, f.due = "", now+framePause
		s.mu.Unlock()
	default:
		again := f.to == p.ID && !f.around
		err := n.send(f, p, shard, now, around)
		if err != nil || !tracked {
			s.remove(f)
		}
		s.mu.Unlock()
		if again {
			n.unanswered(p)
		}
		if err != nil {
			n.giveUp(f, err)
		}
	}
}

var errNotReached = errors.New("no node could take it in time")

// send brings a frame to a keeper of another node; frames is locked.
func (n *Node) send(f *frame, p *peer, shard int, now time.Duration, around bool) (err error) {
	if f.kind == "" {
		if f.kind, f.body, err = n.cfg.Codec.Encode(f.message); err != nil {
			return err
		}
	}
	f.to, f.due, f.wait = p.ID, now+f.wait, 2*repeatAfter
	f.around = n.postBy(around, p, keeperOf(shard), &wire.DeviceMessage{Id: f.id, ApplicationId: f.device.ApplicationID, DeviceId: f.device.DeviceID, Kind: f.kind, Body: f.body})
	return nil
}

// giveUp ends a frame that was not handled, as far as this node knows.
func (n *Node) giveUp(f *frame, err error) {
	if _, tracked := f.message.(Tracked); !tracked {
		n.log.Debug("message for a device is dropped", "application_id", f.device.ApplicationID, "device_id", f.device.DeviceID, "err", err)
		return
	}
	n.metrics.givenUp.Inc()
	const message = "frame is given up"
	if dropped, ok := n.limit.allow(message, n.cfg.Clock()); ok {
		n.log.Warn(message, "application_id", f.device.ApplicationID, "device_id", f.device.DeviceID, "err", err, "more", dropped)
	}
	f.settle()
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
		f.refused(n.now())
		s.mu.Unlock()
		n.metrics.moved.Inc()
		return
	}
	s.remove(f)
	s.mu.Unlock()
	if a.Error != nil {
		n.giveUp(f, fromWire(a.Error))
		return
	}
	f.settle()
}

// drop makes the frames due that were refused, or sent to nodes which are no members any more.
func (s *frames) drop(t *table, now time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.kept {
		if f.to == "" || t.byID[f.to] == nil {
			f.to, f.due, f.pause = "", now, framePause
		}
	}
}

// recall makes the frames due that were sent to a node directly, to go another way.
func (s *frames) recall(to string, now time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.kept {
		if f.to == to && !f.around {
			f.to, f.due, f.pause = "", now, framePause
		}
	}
}

// resend tries again what is due, and probes the nodes on a detour.
func (n *Node) resend() {
	tick := time.NewTicker(framePause)
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
		n.probe()
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
	slices.Sort(out) // as they came
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
	s.kept, s.lines, s.closed = nil, nil, true
	s.mu.Unlock()
	for _, f := range kept {
		f.settle()
	}
}
