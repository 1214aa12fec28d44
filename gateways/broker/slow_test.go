package broker

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"lorikeet/messages"
)

func TestClientThatDoesNotReadIsCutAndDelaysNobody(t *testing.T) {
	t.Parallel()
	w := newWorld()
	cfg := w.config()
	cfg.WriteBuffer = 256 << 10
	s := start(t, cfg)
	stuck := dial(t, s)
	stuck.login(t, 4, "stuck", "app1", "all", keepAlive(0))
	stuck.subscribe(t, "#", 0)
	healthy := connect(t, s, "healthy", "app1", "all")
	healthy.subscribe(t, "#", 0)
	payload := `{"x":"` + strings.Repeat("x", 8000) + `"}`
	e := event1(0)
	e.JSON = []byte(payload)
	for testutil.ToFloat64(s.metrics.ended.WithLabelValues("slow")) == 0 {
		s.Publish(e)
		if m := healthy.next(t); m.payload != payload {
			t.Fatalf("got %d bytes", len(m.payload))
		}
	}
	stuck.ends(t)
	serves(t, s)
}

// TestClientThatConfirmsNothingCostsItsWindowOnly has a client that reads nothing for as long as thousands of events come. Nobody else waits for it, what
// is kept for it is limited, and it gets everything in order once it reads.
func TestClientThatConfirmsNothingCostsItsWindowOnly(t *testing.T) {
	t.Parallel()
	for _, qos := range []byte{1, 2} {
		cfg := newWorld().config()
		cfg.WriteBuffer = 256 << 10
		s := start(t, cfg)
		stuck, healthy := dial(t, s), connect(t, s, "healthy", "app1", "all")
		stuck.login(t, 5, "stuck", "app1", "all", receiveMaximum(50))
		stuck.subscribe(t, "#", qos)
		healthy.subscribe(t, "#", qos)
		const events = 3000
		filler := strings.Repeat("x", 1000)
		for n := range events {
			e := event1(n)
			e.JSON = fmt.Appendf(nil, `{"n":%d,"x":"%s"}`, n, filler)
			s.Publish(e)
			if m := healthy.next(t); m.payload != string(e.JSON) {
				t.Fatalf("%.20s at place %d", m.payload, n)
			}
			if used := s.window.used.Load(); used > 300<<10 { // a tenth of all
				t.Fatalf("%d bytes wait", used)
			}
		}
		for n := 0; n < events; {
			pk, err := stuck.read()
			if err != nil {
				t.Fatal(err)
			}
			switch pk.FixedHeader.Type {
			case packets.Publish:
				if want := fmt.Sprintf(`{"n":%d,`, n); !strings.HasPrefix(string(pk.Payload), want) {
					t.Fatalf("QoS %d: %.20s at place %d", qos, pk.Payload, n)
				}
				n++
				if qos == 1 {
					stuck.send(t, confirmation(packets.Puback, pk.PacketID))
				} else {
					stuck.send(t, confirmation(packets.Pubrec, pk.PacketID))
				}
			case packets.Pubrel:
				stuck.send(t, confirmation(packets.Pubcomp, pk.PacketID))
			}
		}
	}
}

// hand gives events to the subscribers as the feed does, without the log.
func hand(t testing.TB, s *Server) func(e messages.LogEntry) {
	t.Helper()
	v, ok := s.apps.Load("app1")
	if !ok {
		t.Fatal("no application")
	}
	app := v.(*application)
	seq := app.position.Load()
	return func(e messages.LogEntry) {
		seq++
		e.Seq = seq
		app.mu.Lock()
		f := app.feed
		app.mu.Unlock()
		if behind := app.publish(f, &e); behind != nil {
			app.wait(behind)
		}
	}
}

func TestClientThatStopsReadingIsCutInTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, stop := unnetworked(t, newWorld().config())
		defer stop()
		c := pipe(t, s)
		c.login(t, 4, "c", "app1", "all", keepAlive(0))
		c.subscribe(t, "#", 0)
		began := time.Now()
		s.Publish(event1(1))
		for s.doorkeeper.total() > 0 {
			time.Sleep(time.Second)
			synctest.Wait()
		}
		if took := time.Since(began); took > 11*time.Second {
			t.Errorf("cut after %v", took)
		}
	})
}

func TestPublishWaitsForSlowClientsWithinItsCredit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cfg := newWorld().config()
		cfg.WriteBuffer = 100 << 10
		s, stop := unnetworked(t, cfg)
		defer stop()
		c := pipe(t, s)
		c.login(t, 4, "c", "app1", "all")
		c.subscribe(t, "#", 0)
		e := event1(1)
		e.JSON = make([]byte, 1000)
		one := hand(t, s)
		publish := func(n int) time.Duration {
			began := time.Now()
			for range n {
				one(e)
			}
			return time.Since(began)
		}
		if d := publish(40); d != 0 {
			t.Errorf("waited %v for a client that has room", d)
		}
		if d := publish(20); d != waitingTime {
			t.Errorf("waited %v", d)
		}
		if d := publish(10); d != 0 {
			t.Errorf("waited %v without credit", d)
		}
		time.Sleep(1100 * time.Millisecond)
		go func() {
			time.Sleep(10 * time.Millisecond)
			for range 70 {
				_, _ = c.read()
			}
		}()
		if d := publish(1); d != 10*time.Millisecond {
			t.Errorf("waited %v for a client that read after 10 ms", d)
		}
	})
}

func TestBurstDoesNotCutAClientThatReads(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cfg := newWorld().config()
		cfg.WriteBuffer = 100 << 10
		s, stop := unnetworked(t, cfg)
		defer stop()
		c := pipe(t, s)
		c.login(t, 4, "c", "app1", "all")
		c.subscribe(t, "#", 0)
		const events = 3000 // thirty times what the buffer holds
		done := make(chan struct{})
		go func() {
			defer close(done)
			for n := range events {
				if n%64 == 0 {
					time.Sleep(promptly / 2) // reads a chunk in half of the time it may take
				}
				pk, err := c.read()
				if err != nil {
					t.Errorf("event %d: %v", n, err)
					return
				}
				if !strings.HasPrefix(string(pk.Payload), fmt.Sprintf(`{"n":%d}`, n)) {
					t.Errorf("event %d is %.20s", n, pk.Payload)
					return
				}
			}
		}()
		one := hand(t, s)
		for n := range events {
			e := event1(n)
			e.JSON = append(e.JSON, make([]byte, 1000)...)
			one(e)
		}
		<-done
	})
}

func TestMemoryOfAllWriteBuffersIsLimited(t *testing.T) {
	t.Parallel()
	cfg := newWorld().config()
	cfg.WriteBuffer = 256 << 10
	s := start(t, cfg)
	s.memory.limit = 400 << 10 // less than two clients may have alone
	for i := range 4 {
		c := dial(t, s)
		c.login(t, 4, fmt.Sprint("c", i), "app1", "all")
		c.subscribe(t, "#", 0)
	}
	e := event1(0)
	e.JSON = make([]byte, 16<<10)
	for s.doorkeeper.total() > 0 {
		s.Publish(e)
		if used := s.memory.used.Load(); used > s.memory.limit+4*fairShare {
			t.Fatalf("%d bytes wait", used)
		}
	}
	serves(t, s)
}
