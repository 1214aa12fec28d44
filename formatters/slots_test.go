package formatters

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"lorikeet/messages"
)

func formatter(source string) messages.Formatter {
	return messages.Formatter{Kind: messages.FormatterJavaScript, Parameter: source}
}

// queue asks for a slot in the background and appends name to order when it has one.
func queue(t *testing.T, s *slots, name string, order *[]string, granted chan<- *waiter) {
	t.Helper()
	go func() {
		w, err := s.acquire(context.Background(), formatter(name), javaScript, messages.DeviceID{})
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		*order = append(*order, name) // one slot: one at a time
		granted <- w
	}()
	synctest.Wait()
}

func acquire(t *testing.T, s *slots, name string) *waiter {
	t.Helper()
	w, err := s.acquire(t.Context(), formatter(name), javaScript, messages.DeviceID{})
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return w
}

// prove makes scripts known as healthy.
func prove(t *testing.T, s *slots, names ...string) {
	t.Helper()
	for _, name := range names {
		s.release(acquire(t, s, name), nil, time.Millisecond, nil)
	}
}

func TestScriptsTakeTurns(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSlots(1, time.Now)
		granted := make(chan *waiter, 10)
		var order []string
		first := acquire(t, s, "first")
		for _, name := range []string{"a", "a", "a", "b", "c", "b"} {
			queue(t, s, name, &order, granted)
		}
		s.release(first, nil, 0, nil)
		for range 6 {
			s.release(<-granted, nil, 0, nil)
			synctest.Wait()
		}
		if want := []string{"a", "b", "c", "a", "b", "a"}; !slices.Equal(order, want) {
			t.Errorf("order %v, want %v", order, want)
		}
		if busy, waiting, _ := s.counts(); busy != 0 || waiting != 0 {
			t.Errorf("%d busy, %d waiting at the end", busy, waiting)
		}
	})
}

func TestRiskyScriptsLeaveASlot(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(t *testing.T, s *slots){
		"new":     func(*testing.T, *slots) {},
		"stopped": func(t *testing.T, s *slots) { s.release(acquire(t, s, "risky 1"), nil, time.Millisecond, errLimit) },
		"slow": func(t *testing.T, s *slots) {
			prove(t, s, "risky 1", "risky 2", "risky 3")
			for _, script := range []string{"risky 1", "risky 2", "risky 3"} {
				s.release(acquire(t, s, script), nil, time.Second, nil)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := newSlots(3, time.Now)
				prove(t, s, "healthy")
				spoil(t, s)
				one, two := acquire(t, s, "risky 1"), acquire(t, s, "risky 2")
				granted := make(chan *waiter, 1)
				queue(t, s, "risky 3", new([]string), granted)
				s.release(acquire(t, s, "healthy"), nil, time.Millisecond, nil) // is not held up
				synctest.Wait()
				if len(granted) > 0 {
					t.Error("a third risky script got the last slot")
				}
				s.release(one, nil, time.Millisecond, nil)
				s.release(<-granted, nil, time.Millisecond, nil)
				s.release(two, nil, time.Millisecond, nil)
			})
		})
	}
}

func TestStoppedScriptRunsOnceAtATime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSlots(4, time.Now)
		s.release(acquire(t, s, "bad"), nil, time.Millisecond, errLimit)
		running := acquire(t, s, "bad")
		granted := make(chan *waiter, 1)
		queue(t, s, "bad", new([]string), granted)
		if len(granted) > 0 {
			t.Error("it runs twice at a time")
		}
		s.release(running, nil, time.Millisecond, nil)
		s.release(<-granted, nil, time.Millisecond, nil)
	})
}

func TestScriptThatIsStoppedAgainAndAgainIsParked(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSlots(1, time.Now)
		stop := func() bool { return s.release(acquire(t, s, "bad"), nil, time.Millisecond, errLimit) }
		for i := 1; i < strikesToPark; i++ {
			if stop() {
				t.Fatalf("parked after %d strikes, want %d", i, strikesToPark)
			}
		}
		last := acquire(t, s, "bad")
		refused := make(chan error, 1)
		go func() {
			_, err := s.acquire(context.Background(), formatter("bad"), javaScript, messages.DeviceID{})
			refused <- err
		}()
		synctest.Wait()
		if !s.release(last, nil, time.Millisecond, errLimit) {
			t.Fatalf("not parked after %d strikes", strikesToPark)
		}
		parked := &messages.Error{Name: "formatter_parked"}
		if err := <-refused; !errors.Is(err, parked) {
			t.Errorf("a call that waited: got %v, want formatter_parked", err)
		}
		for pause := parkFirst; pause < parkLongest; pause *= 2 {
			time.Sleep(pause - time.Millisecond)
			if _, err := s.acquire(t.Context(), formatter("bad"), javaScript, messages.DeviceID{}); !errors.Is(err, parked) {
				t.Fatalf("before %s: got %v, want formatter_parked", pause, err)
			}
			time.Sleep(time.Millisecond)
			stop()
		}
		if _, _, n := s.counts(); n != 1 {
			t.Errorf("%d scripts are parked, want 1", n)
		}
		time.Sleep(parkLongest)
		for range 20 * scriptForgives {
			prove(t, s, "bad")
		}
		if stop() {
			t.Error("parked at the first strike after it was forgiven")
		}
	})
}

// TestDeviceThatMakesAScriptLoopIsParkedAlone: the payloads of one device in ten make the script that all share run too long.
func TestDeviceThatMakesAScriptLoopIsParkedAlone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSlots(1, time.Now)
		parked := &messages.Error{Name: "formatter_parked"}
		stops, refusals := 0, 0
		for round := range 30 {
			for i := range 10 {
				device := messages.DeviceID{ApplicationID: "app", DeviceID: fmt.Sprint("device-", i)}
				w, err := s.acquire(t.Context(), formatter("shared"), javaScript, device)
				switch {
				case i == 3 && errors.Is(err, parked):
					refusals++
				case err != nil:
					t.Fatalf("round %d, %s: %v", round, device, err)
				case i == 3:
					s.release(w, nil, 100*time.Millisecond, errLimit)
					stops++
				default:
					s.release(w, nil, time.Millisecond, nil)
				}
			}
			time.Sleep(time.Second)
		}
		if stops < strikesToPark || refusals <= stops {
			t.Errorf("the device ran %d times and was refused %d times, want %d runs and then mostly refusals", stops, refusals, strikesToPark)
		}
	})
}

func TestWatchedDevicesAreBounded(t *testing.T) {
	t.Parallel()
	var s script
	for i := range 2 * maxOffenders {
		s.settle(time.Now(), messages.DeviceID{ApplicationID: "app", DeviceID: fmt.Sprint(i)}, 0, errLimit)
	}
	if n := len(s.offenders); n != maxOffenders {
		t.Errorf("%d devices are watched, want %d", n, maxOffenders)
	}
}

func TestPatientSetParksNothing(t *testing.T) {
	t.Parallel()
	s := newSlots(1, time.Now)
	s.patient = true
	for range 3 * strikesToPark {
		if s.release(acquire(t, s, "bad"), nil, 0, errLimit) {
			t.Fatal("the script was parked")
		}
	}
	s.release(acquire(t, s, "bad"), nil, 0, nil)
}

func TestWaitingCallGivesUpWithItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSlots(1, time.Now)
		running := acquire(t, s, "a")
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		for _, name := range []string{"a", "b"} {
			if _, err := s.acquire(ctx, formatter(name), javaScript, messages.DeviceID{}); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("got %v, want %v", err, context.DeadlineExceeded)
			}
		}
		if busy, waiting, _ := s.counts(); busy != 1 || waiting != 0 {
			t.Errorf("%d busy, %d waiting, want 1 and 0", busy, waiting)
		}
		s.release(running, nil, 0, nil)
		s.release(acquire(t, s, "c"), nil, 0, nil)
	})
}

func TestQueueOfAScriptIsBounded(t *testing.T) {
	t.Parallel()
	s := newSlots(1, time.Now)
	prove(t, s, "other")
	running := acquire(t, s, "a")
	done := make(chan error)
	for range maxWaiting {
		go func() {
			w, err := s.acquire(context.Background(), formatter("a"), javaScript, messages.DeviceID{})
			if err == nil {
				s.release(w, nil, 0, nil)
			}
			done <- err
		}()
	}
	for waiting := 0; waiting < maxWaiting; {
		_, waiting, _ = s.counts()
	}
	if _, err := s.acquire(t.Context(), formatter("a"), javaScript, messages.DeviceID{}); messages.CodeOf(err) != messages.CodeExhausted {
		t.Errorf("got %v, want formatter_busy", err)
	}
	go func() {
		w, err := s.acquire(context.Background(), formatter("other"), javaScript, messages.DeviceID{})
		if err == nil {
			s.release(w, nil, 0, nil)
		}
		done <- err
	}()
	s.release(running, nil, 0, nil)
	for range maxWaiting + 1 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

func TestCloseRefusesWaitingCalls(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSlots(1, time.Now)
		running := acquire(t, s, "a")
		refused := make(chan error, 2)
		for _, name := range []string{"a", "b"} {
			go func() {
				_, err := s.acquire(context.Background(), formatter(name), javaScript, messages.DeviceID{})
				refused <- err
			}()
		}
		synctest.Wait()
		s.close()
		for range 2 {
			if err := <-refused; messages.CodeOf(err) != messages.CodeUnavailable {
				t.Errorf("got %v, want formatter_unavailable", err)
			}
		}
		s.release(running, nil, 0, nil)
		if _, err := s.acquire(t.Context(), formatter("c"), javaScript, messages.DeviceID{}); messages.CodeOf(err) != messages.CodeUnavailable {
			t.Errorf("after: got %v, want formatter_unavailable", err)
		}
	})
}

func TestScriptsThatWereNotUsedForLongAreForgotten(t *testing.T) {
	t.Parallel()
	s := newScripts()
	kept := s.get(formatter("kept"), javaScript)
	kept.running = 1
	first := s.get(formatter("first"), javaScript)
	for i := range maxScripts {
		s.get(formatter(fmt.Sprint(i)), javaScript)
	}
	if n := s.recent.Len(); n > maxScripts+1 || n != len(s.known) {
		t.Errorf("%d scripts are remembered (%d by text), want %d", n, len(s.known), maxScripts)
	}
	if s.get(formatter("kept"), javaScript) != kept {
		t.Error("a script that runs was forgotten")
	}
	if again := s.get(formatter("first"), javaScript); again == first || again.id == first.id {
		t.Error("the script that was used longest ago was not forgotten, or its id was given again")
	}
}
