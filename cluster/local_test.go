package cluster

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"lorikeet/messages"
)

type echo struct{ n int }

func (e *echo) Receive(ctx actor.Context) {
	if r, ok := ctx.Message().(*Request); ok {
		if r.Asked() == "panic" {
			panic("on purpose")
		}
		e.n++
		r.Answer(e.n, nil)
	}
}

func startEcho(t *testing.T, made *atomic.Int32) *Local {
	system := actor.NewActorSystem(actor.WithLoggerFactory(func(*actor.ActorSystem) *slog.Logger { return slog.New(slog.DiscardHandler) }))
	l := StartLocal(LocalConfig{System: system, IdleAfter: time.Minute, Clock: time.Now}, func(messages.DeviceID) actor.Actor {
		made.Add(1)
		return &echo{}
	})
	t.Cleanup(func() {
		if err := l.Stop(context.Background()); err != nil {
			t.Error(err)
		}
		system.Shutdown()
	})
	return l
}

func ask(t *testing.T, l *Local, n int) int {
	t.Helper()
	v, err := l.Ask(context.Background(), device(n), "hello")
	if err != nil {
		t.Fatal(err)
	}
	return v.(int)
}

func TestActorsWakeAndAreStoppedWhenIdle(t *testing.T) {
	var made atomic.Int32
	synctest.Test(t, func(t *testing.T) {
		l := startEcho(t, &made)
		if ask(t, l, 1) != 1 || ask(t, l, 1) != 2 || ask(t, l, 2) != 1 || l.Alive() != 2 {
			t.Fatalf("%d alive", l.Alive())
		}
		time.Sleep(50 * time.Second)
		ask(t, l, 1)
		time.Sleep(30 * time.Second)
		synctest.Wait()
		if l.Alive() != 1 {
			t.Fatalf("%d alive, want only the one that was used", l.Alive())
		}
		if ask(t, l, 1) != 4 || ask(t, l, 2) != 1 || made.Load() != 3 {
			t.Fatalf("%d made", made.Load())
		}
	})
}

func TestAskEndsWithItsContext(t *testing.T) {
	var made atomic.Int32
	l := startEcho(t, &made)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := l.Ask(ctx, device(1), "panic"); messages.CodeOf(err) != messages.CodeUnavailable {
		t.Fatalf("got %v", err)
	}
}

func TestAskAfterStopIsRefused(t *testing.T) {
	var made atomic.Int32
	l := startEcho(t, &made)
	ask(t, l, 1)
	if err := l.Stop(context.Background()); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Ask(context.Background(), device(1), "hello"); messages.CodeOf(err) != messages.CodeUnavailable {
		t.Fatalf("got %v", err)
	}
}

// slow is an actor that counts how many of it live at once, and handles nothing until it is let.
type slow struct {
	living, most *atomic.Int32
	begun, let   chan struct{}
}

func (s *slow) Receive(ctx actor.Context) {
	switch m := ctx.Message().(type) {
	case *actor.Started:
		s.most.Store(max(s.most.Load(), s.living.Add(1)))
	case *actor.Stopped:
		s.living.Add(-1)
	case *Request:
		s.begun <- struct{}{}
		<-s.let
		m.Answer("done", nil)
	}
}

type slowLocal struct {
	*Local
	living, most atomic.Int32
	begun, let   chan struct{}
	owned, fit   atomic.Bool
	refused      chan any
}

func startSlow(t *testing.T) *slowLocal {
	s := &slowLocal{begun: make(chan struct{}, 100), let: make(chan struct{}, 100), refused: make(chan any, 100)}
	s.owned.Store(true)
	s.fit.Store(true)
	system := actor.NewActorSystem(actor.WithLoggerFactory(func(*actor.ActorSystem) *slog.Logger { return slog.New(slog.DiscardHandler) }))
	s.Local = StartLocal(LocalConfig{System: system, Clock: time.Now, Owns: func(messages.DeviceID) bool { return s.owned.Load() },
		Fit: s.fit.Load, Refuse: func(_ messages.DeviceID, m any) { s.refused <- m }},
		func(messages.DeviceID) actor.Actor {
			return &slow{living: &s.living, most: &s.most, begun: s.begun, let: s.let}
		})
	t.Cleanup(func() {
		close(s.let)
		if err := s.Stop(context.Background()); err != nil {
			t.Error(err)
		}
		system.Shutdown()
	})
	return s
}

func (s *slowLocal) begin() chan error {
	out := make(chan error, 1)
	r := &Request{reply: make(chan answer, 1)}
	if !s.Deliver(device(1), r) {
		out <- messages.ErrMoved
		return out
	}
	go func() { a := <-r.reply; out <- a.err }()
	return out
}

func all(messages.DeviceID) bool { return true }

func TestStoppedActorFinishesItsMailboxAndTheNextOneWaits(t *testing.T) {
	t.Parallel()
	s := startSlow(t)
	before := []chan error{s.begin(), s.begin()}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := s.StopWhere(ctx, func(id messages.DeviceID) bool { return id == device(2) }); err != nil {
		t.Errorf("nothing to stop: %v", err)
	}
	if err := s.StopWhere(ctx, all); err == nil {
		t.Error("it can't have stopped")
	}
	if s.Alive() != 0 {
		t.Error("a stopping actor counts")
	}
	after := s.begin()
	for range 3 {
		s.let <- struct{}{}
	}
	for _, c := range append(before, after) {
		if err := <-c; err != nil {
			t.Error(err)
		}
	}
	if err := s.StopWhere(context.Background(), all); err != nil {
		t.Error(err)
	}
	if s.most.Load() != 1 || s.living.Load() != 0 {
		t.Errorf("%d at once, %d live", s.most.Load(), s.living.Load())
	}
}

func TestDeviceOfAnotherNodeIsRefused(t *testing.T) {
	t.Parallel()
	s := startSlow(t)
	s.owned.Store(false)
	if _, err := s.Ask(context.Background(), device(1), "x"); !errors.Is(err, messages.ErrMoved) {
		t.Errorf("got %v", err)
	}
	s.owned.Store(true)
	first := s.begin()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := s.StopWhere(ctx, all); err == nil {
		t.Error("it can't have stopped")
	}
	if !s.Deliver(device(1), "waits") {
		t.Error("not taken")
	}
	s.owned.Store(false)
	s.let <- struct{}{}
	if err := <-first; err != nil {
		t.Errorf("what was in the mailbox: %v", err)
	}
	if got := <-s.refused; got != "waits" {
		t.Errorf("got %v", got)
	}
}

func TestNothingIsHandledWhileUnfit(t *testing.T) {
	t.Parallel()
	s := startSlow(t)
	first := s.begin()
	if !s.Deliver(device(1), "late") {
		t.Error("not taken")
	}
	<-s.begun
	s.fit.Store(false)
	s.let <- struct{}{}
	if err := <-first; err != nil {
		t.Errorf("what was begun before: %v", err)
	}
	if got := <-s.refused; got != "late" {
		t.Errorf("got %v", got)
	}
}
