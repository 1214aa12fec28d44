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

// Local runs the device actors of a single node: virtual actors that are spawned by their first message and stopped when they have been idle.
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
}

// LocalConfig configures Local.
type LocalConfig struct {
	System    *actor.ActorSystem // shut down by its owner, after Stop
	IdleAfter time.Duration      // an actor without messages for this long is stopped; 5 min if zero
	Clock     func() time.Time
}

// StartLocal starts to serve. newActor makes the actor of a device; it must be trivial, for a panic in it would be the actor's end.
func StartLocal(cfg LocalConfig, newActor func(messages.DeviceID) actor.Actor) *Local {
	if cfg.IdleAfter == 0 {
		cfg.IdleAfter = 5 * time.Minute
	}
	l := &Local{
		cfg: cfg, system: cfg.System,
		props: func(id messages.DeviceID) *actor.Props {
			return actor.PropsFromProducer(func() actor.Actor { return newActor(id) }, actor.WithGuardian(stopOnFailure))
		},
		done: make(chan struct{}),
	}
	for i := range l.shards {
		l.shards[i].alive = map[messages.DeviceID]*activation{}
	}
	l.wg.Add(1)
	go l.sweep()
	return l
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
func (l *Local) Tell(id messages.DeviceID, message any) {
	if l.closed.Load() {
		return
	}
	s := l.shard(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.alive[id]
	if a == nil {
		a = &activation{pid: l.system.Root.Spawn(l.props(id))}
		s.alive[id] = a
	}
	a.lastUsed = l.cfg.Clock().UnixNano()
	// Sent under the lock: a stop of the sweep can then only come behind it in the mailbox.
	l.system.Root.Send(a.pid, message)
}

// Ask sends a command to the actor of a device and waits for its answer. When ctx ends first, the outcome is unknown.
func (l *Local) Ask(ctx context.Context, id messages.DeviceID, command any) (any, error) {
	if l.closed.Load() {
		return nil, errStopping
	}
	r := &Request{Command: command, reply: make(chan answer, 1)}
	l.Tell(id, r)
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
	for i := range l.shards {
		s := &l.shards[i]
		s.mu.Lock()
		for id, a := range s.alive {
			if id.ApplicationID == applicationID && (deviceID == "" || id.DeviceID == deviceID) {
				l.system.Root.Send(a.pid, message)
			}
		}
		s.mu.Unlock()
	}
}

// Owns is true: there is no other node.
func (l *Local) Owns(messages.DeviceID) bool { return true }

// Forget is called by an actor that stops by itself, so that the next message wakes a new one.
func (l *Local) Forget(id messages.DeviceID, pid *actor.PID) {
	s := l.shard(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	if a := s.alive[id]; a != nil && a.pid.Id == pid.Id {
		delete(s.alive, id)
	}
}

// Alive is the number of awake actors.
func (l *Local) Alive() int {
	n := 0
	for i := range l.shards {
		l.shards[i].mu.Lock()
		n += len(l.shards[i].alive)
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
		for id, a := range s.alive {
			if a.lastUsed < before {
				delete(s.alive, id)
				l.system.Root.Poison(a.pid)
			}
		}
		s.mu.Unlock()
	}
}

// Stop lets every actor finish what is in its mailbox and stops it. Messages that come later are refused.
func (l *Local) Stop(ctx context.Context) error {
	if l.closed.Swap(true) {
		return nil
	}
	close(l.done)
	l.wg.Wait()
	for i := range l.shards {
		s := &l.shards[i]
		s.mu.Lock()
		alive := s.alive
		s.alive = map[messages.DeviceID]*activation{}
		s.mu.Unlock()
		for _, a := range alive {
			f := l.system.Root.PoisonFuture(a.pid)
			stopped := make(chan struct{})
			go func() { defer close(stopped); _ = f.Wait() }()
			select {
			case <-stopped:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
	return nil
}
