package cluster

import (
	"context"
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
