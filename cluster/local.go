package cluster

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"lorikeet/messages"
)

// Request is a command to a device actor whose answer someone waits for. The actor must call Answer exactly once.
type Request struct {
	Command any
	reply   chan answer
}

type answer struct {
	value any
	err   error
}

// Asked is the command.
func (r *Request) Asked() any { return r.Command }

// Answer gives the outcome to the asker. It never blocks.
func (r *Request) Answer(value any, err error) { r.reply <- answer{value, err} }

// Local runs the device actors of this node: virtual actors that are spawned by their first message and stopped when they have been idle.
type Local struct {
	cfg    LocalConfig
	system *actor.ActorSystem
	props  func(messages.DeviceID) *actor.Props
	shards [64]localShard
	done   chan struct{}
	wg     sync.WaitGroup
	closed atomic.Bool
}

type localShard struct {
	mu    sync.Mutex
	alive map[messages.DeviceID]*activation
}

type activation struct {
	pid      *actor.PID
	lastUsed int64 // Unix ns
	stopping bool
	waiting  []any         // messages that came while the actor was stopping, for the next one
	gone     chan struct{} // closed when the actor has stopped; nil if nobody waits for that
}

// LocalConfig configures Local. The three functions are for a node among others; on a single node they are nil.
type LocalConfig struct {
	System    *actor.ActorSystem // shut down by its owner, after Stop
	IdleAfter time.Duration      // an actor without messages for this long is stopped; 5 min if zero
	Clock     func() time.Time

	Owns   func(messages.DeviceID) bool            // says of a message that comes in whether it may be taken
	Fit    func() bool                             // says before a message is handled whether this node may still handle anything
	Refuse func(id messages.DeviceID, message any) // gets the messages that were taken in and can't be handled here any more
}

// StartLocal starts to serve. newActor makes the actor of a device; it must be trivial, for a panic in it would be the actor's end.
func StartLocal(cfg LocalConfig, newActor func(messages.DeviceID) actor.Actor) *Local {
	if cfg.IdleAfter == 0 {
		cfg.IdleAfter = 5 * time.Minute
	}
	l := &Local{cfg: cfg, system: cfg.System, done: make(chan struct{})}
	l.props = func(id messages.DeviceID) *actor.Props {
		return actor.PropsFromProducer(func() actor.Actor { return &resident{Actor: newActor(id), local: l, id: id} }, actor.WithGuardian(stopOnFailure))
	}
	for i := range l.shards {
		l.shards[i].alive = map[messages.DeviceID]*activation{}
	}
	l.wg.Add(1)
	go l.sweep()
	return l
}

// resident is a device actor as it lives here: it tells when it has stopped, and handles nothing once the node may not.
type resident struct {
	actor.Actor
	local *Local
	id    messages.DeviceID
}

// Receive hands over to the device actor.
func (r *resident) Receive(ctx actor.Context) {
	switch m := ctx.Message().(type) {
	case *actor.Stopped:
		defer r.local.stopped(r.id, ctx.Self())
	case actor.SystemMessage, actor.AutoReceiveMessage:
	default:
		if r.local.cfg.Fit != nil && !r.local.cfg.Fit() {
			r.local.cfg.Refuse(r.id, m)
			return
		}
	}
	r.Actor.Receive(ctx)
}

// stopOnFailure: an actor that panics is stopped, and the next message to its device wakes a new one from the store.
var stopOnFailure = actor.NewOneForOneStrategy(1, time.Second, func(any) actor.Directive { return actor.StopDirective })

func (l *Local) shard(id messages.DeviceID) *localShard {
	h := uint32(2166136261)
	for i := range len(id.DeviceID) {
		h = (h ^ uint32(id.DeviceID[i])) * 16777619
	}
	return &l.shards[h%64]
}

// Tell sends a message to the actor of a device and does not wait.
func (l *Local) Tell(id messages.DeviceID, message any) { l.Deliver(id, message) }

// Deliver is Tell that says whether the message was taken: it is not if another node owns the device, or after Stop.
func (l *Local) Deliver(id messages.DeviceID, message any) bool {
	s := l.shard(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	// Asked under the lock: StopWhere, which comes after a change of owner, finds every actor that was woken before.
	if l.closed.Load() || l.cfg.Owns != nil && !l.cfg.Owns(id) {
		return false
	}
	a := s.alive[id]
	if a == nil {
		a = &activation{pid: l.system.Root.Spawn(l.props(id))}
		s.alive[id] = a
	}
	a.lastUsed = l.cfg.Clock().UnixNano()
	if a.stopping {
		a.waiting = append(a.waiting, message)
		return true
	}
	// Sent under the lock: a stop can then only come behind it in the mailbox.
	l.system.Root.Send(a.pid, message)
	return true
}

// Ask sends a command to the actor of a device and waits for its answer. When ctx ends first, the outcome is unknown.
func (l *Local) Ask(ctx context.Context, id messages.DeviceID, command any) (any, error) {
	r := &Request{Command: command, reply: make(chan answer, 1)}
	if !l.Deliver(id, r) {
		if l.closed.Load() {
			return nil, errStopping
		}
		return nil, messages.ErrMoved
	}
	select {
	case a := <-r.reply:
		return a.value, a.err
	case <-ctx.Done():
		return nil, messages.Errorf(messages.CodeUnavailable, "device_busy", "device %s did not answer in time; look whether the request had effect before you repeat it", id)
	}
}

var errStopping = messages.Errorf(messages.CodeUnavailable, "stopping", "server is stopping; try again in a moment")

// TellAwake sends a message to the awake actors among the devices of an application, or to one of them if deviceID is not empty.
func (l *Local) TellAwake(applicationID, deviceID string, message any) {
	if deviceID != "" {
		id := messages.DeviceID{ApplicationID: applicationID, DeviceID: deviceID}
		s := l.shard(id)
		s.mu.Lock()
		defer s.mu.Unlock()
		if a := s.alive[id]; a != nil && !a.stopping {
			l.system.Root.Send(a.pid, message)
		}
		return
	}
	for i := range l.shards {
		s := &l.shards[i]
		s.mu.Lock()
		for id, a := range s.alive {
			if !a.stopping && id.ApplicationID == applicationID {
				l.system.Root.Send(a.pid, message)
			}
		}
		s.mu.Unlock()
	}
}

// Owns is true: there is no other node.
func (l *Local) Owns(messages.DeviceID) bool { return true }

// Retire stops an actor that asks for it itself. What is sent to its device meanwhile is kept for the next one.
func (l *Local) Retire(id messages.DeviceID, pid *actor.PID) {
	s := l.shard(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	if a := s.alive[id]; a != nil && a.pid.Id == pid.Id {
		l.stop(a)
	}
}

// Alive is the number of awake actors.
func (l *Local) Alive() int {
	n := 0
	for i := range l.shards {
		l.shards[i].mu.Lock()
		for _, a := range l.shards[i].alive {
			if !a.stopping {
				n++
			}
		}
		l.shards[i].mu.Unlock()
	}
	return n
}

func (l *Local) sweep() {
	defer l.wg.Done()
	tick := time.NewTicker(max(l.cfg.IdleAfter/10, time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case <-l.done:
			return
		case <-tick.C:
			l.stopIdle(l.cfg.Clock().Add(-l.cfg.IdleAfter).UnixNano())
		}
	}
}

func (l *Local) stopIdle(before int64) {
	for i := range l.shards {
		s := &l.shards[i]
		s.mu.Lock()
		for _, a := range s.alive {
			if a.lastUsed < before {
				l.stop(a)
			}
		}
		s.mu.Unlock()
	}
}

// stop lets the actor finish what is in its mailbox. The shard is locked.
func (l *Local) stop(a *activation) {
	if !a.stopping {
		a.stopping = true
		l.system.Root.Poison(a.pid)
	}
}

// stopped is called by an actor at its end. If messages came meanwhile, the next one is woken: there are never two of a device at once.
func (l *Local) stopped(id messages.DeviceID, pid *actor.PID) {
	s := l.shard(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.alive[id]
	if a == nil || a.pid.Id != pid.Id {
		return
	}
	delete(s.alive, id)
	if a.gone != nil {
		close(a.gone)
	}
	if len(a.waiting) == 0 {
		return
	}
	if l.closed.Load() || l.cfg.Owns != nil && !l.cfg.Owns(id) {
		l.refuse(id, a.waiting)
		return
	}
	next := &activation{pid: l.system.Root.Spawn(l.props(id)), lastUsed: a.lastUsed}
	s.alive[id] = next
	for _, m := range a.waiting {
		l.system.Root.Send(next.pid, m)
	}
}

// refuse ends messages that are not handled here. It never blocks, and calls nothing under the lock of a shard.
func (l *Local) refuse(id messages.DeviceID, waiting []any) {
	for _, m := range waiting {
		if r, ok := m.(*Request); ok && l.closed.Load() {
			r.Answer(nil, errStopping)
		} else if l.cfg.Refuse != nil {
			go l.cfg.Refuse(id, m)
		}
	}
}

// StopWhere stops the actors that match once they have handled what is in their mailboxes, and waits for that until ctx ends.
func (l *Local) StopWhere(ctx context.Context, match func(messages.DeviceID) bool) error {
	var waits []chan struct{}
	for i := range l.shards {
		s := &l.shards[i]
		s.mu.Lock()
		for id, a := range s.alive {
			if !match(id) {
				continue
			}
			if a.gone == nil {
				a.gone = make(chan struct{})
			}
			waits = append(waits, a.gone)
			l.stop(a)
		}
		s.mu.Unlock()
	}
	for _, gone := range waits {
		select {
		case <-gone:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// Stop lets every actor finish what is in its mailbox and stops it. Messages that come later are refused.
func (l *Local) Stop(ctx context.Context) error {
	if l.closed.Swap(true) {
		return nil
	}
	close(l.done)
	l.wg.Wait()
	return l.StopWhere(ctx, func(messages.DeviceID) bool { return true })
}
