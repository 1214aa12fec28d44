package simulator

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"lorikeet/messages"
)

var (
	oneAddr   = messages.DevAddr{1, 2, 3, 4}
	otherAddr = messages.DevAddr{1, 2, 3, 5}
)

// bookkeeper writes ledgers by hand.
type bookkeeper struct{ *judge }

func (b bookkeeper) sends(device string, addr messages.DevAddr, fCnts ...uint32) {
	for _, n := range fCnts {
		b.sent(device, addr, Transmission{FCnt: n, Sequence: uint64(n) + 100, Confirmed: true})
	}
}

// hooks notes that an uplink came to the webhook, in its own good order.
func (b bookkeeper) hooks(device string, addr messages.DevAddr, at time.Duration, fCnts ...uint32) {
	for _, n := range fCnts {
		b.arrive(arrival{by: byWebhook, kind: messages.EventUplink, device: device, addr: addr, fCnt: n, eventID: device + addr.String() + string(rune('a'+n)), body: uint64(n), at: at})
	}
}

func (b bookkeeper) up(by receiver, fCnt uint32, id string, body uint64) {
	b.arrive(arrival{by: by, kind: messages.EventUplink, device: "dev", addr: oneAddr, fCnt: fCnt, eventID: id, body: body})
}

// TestTheJudgeFindsEachViolation gives the judge a ledger with one fault, or with what looks like one.
func TestTheJudgeFindsEachViolation(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		write func(b bookkeeper)
		want  Verdict // the counts; times are not looked at
		bad   string  // what Violations says; empty: nothing
	}{
		"all is well": {func(b bookkeeper) {
			b.sends("dev", oneAddr, 0, 1)
			b.hooks("dev", oneAddr, 0, 0, 1)
			b.acked("dev", oneAddr, 100, 0)
			b.up(byMQTT, 1, "", 1)
		}, Verdict{Accepted: 2, Deliveries: 2}, ""},
		"not accepted": {func(b bookkeeper) { b.sends("dev", oneAddr, 0) }, Verdict{NotAccepted: 1}, ""},
		"acknowledged and lost": {func(b bookkeeper) {
			b.sends("dev", oneAddr, 0, 1)
			b.acked("dev", oneAddr, 101, 0)
			b.hooks("dev", oneAddr, 0, 0)
		}, Verdict{Accepted: 2, Lost: 1, Deliveries: 1}, "1 accepted uplinks lost"},
		"acknowledged in answer to a repetition, and lost": {func(b bookkeeper) {
			b.sends("dev", oneAddr, 0)
			b.sent("dev", oneAddr, Transmission{FCnt: 0, Sequence: 777, Confirmed: true, Repetition: true})
			b.acked("dev", oneAddr, 777, 0)
		}, Verdict{Accepted: 1, Lost: 1}, "1 accepted uplinks lost"},
		"an ACK in the window of an unconfirmed uplink proves nothing": {func(b bookkeeper) {
			b.sent("dev", oneAddr, Transmission{FCnt: 0, Sequence: 1})
			b.acked("dev", oneAddr, 1, 0)
		}, Verdict{NotAccepted: 1}, ""},
		"seen by MQTT and lost": {func(b bookkeeper) {
			b.sends("dev", oneAddr, 0)
			b.up(byMQTT, 0, "", 5)
		}, Verdict{Accepted: 1, Lost: 1}, "1 accepted uplinks lost"},
		"two event ids": {func(b bookkeeper) {
			b.sends("dev", oneAddr, 0)
			b.up(byWebhook, 0, "a", 5)
			b.up(byWebhook, 0, "b", 5)
			b.up(byWebhook, 0, "b", 5)
		}, Verdict{Accepted: 1, PublishedTwice: 1, Deliveries: 3}, "1 events published twice"},
		"one id with two bodies": {func(b bookkeeper) {
			b.sends("dev", oneAddr, 0)
			b.up(byWebhook, 0, "a", 5)
			b.up(byWebhook, 0, "a", 6)
		}, Verdict{Accepted: 1, PublishedTwice: 1, Deliveries: 2}, "1 events published twice"},
		"another body over MQTT": {func(b bookkeeper) {
			b.sends("dev", oneAddr, 0)
			b.up(byMQTT, 0, "", 6)
			b.up(byWebhook, 0, "a", 5)
		}, Verdict{Accepted: 1, PublishedTwice: 1, Deliveries: 1}, "1 events published twice"},
		"one id for two uplinks": {func(b bookkeeper) {
			b.sends("dev", oneAddr, 0, 1)
			b.up(byWebhook, 0, "a", 5)
			b.up(byWebhook, 1, "a", 6)
		}, Verdict{Accepted: 2, PublishedTwice: 1, Deliveries: 2}, "1 events published twice"},
		"a repeated delivery": {func(b bookkeeper) {
			b.sends("dev", oneAddr, 0, 1)
			b.hooks("dev", oneAddr, 0, 0, 1, 0)
			b.up(byMQTT, 1, "", 1)
			b.up(byMQTT, 1, "", 1)
		}, Verdict{Accepted: 2, Repeated: 1, Deliveries: 3}, ""},
		"another type with two bodies": {func(b bookkeeper) {
			for body := range uint64(2) {
				b.arrive(arrival{kind: messages.EventDownSent, device: "dev", eventID: "x", body: body})
			}
		}, Verdict{PublishedTwice: 1, Deliveries: 2}, "1 events published twice"},
		"another type repeated": {func(b bookkeeper) {
			for range 2 {
				b.arrive(arrival{kind: messages.EventDownSent, device: "dev", eventID: "x", body: 1})
			}
		}, Verdict{Repeated: 1, Deliveries: 2}, ""},
		"no event id": {func(b bookkeeper) {
			b.sends("dev", oneAddr, 0)
			b.up(byWebhook, 0, "", 1)
		}, Verdict{Accepted: 1, WithoutID: 1, Deliveries: 1}, "1 events without an id"},
		"out of order": {func(b bookkeeper) {
			b.sends("dev", oneAddr, 0, 1, 2)
			b.hooks("dev", oneAddr, 0, 0, 2, 1)
		}, Verdict{Accepted: 3, OutOfOrder: 1, Deliveries: 3}, "1 events out of order"},
		"an old session after the new one": {func(b bookkeeper) {
			b.sends("dev", oneAddr, 7)
			b.sends("dev", otherAddr, 0)
			b.hooks("dev", otherAddr, 0, 0)
			b.hooks("dev", oneAddr, 0, 7)
		}, Verdict{Accepted: 2, OutOfOrder: 1, Deliveries: 2}, "1 events out of order"},
		"a new session starts at 0": {func(b bookkeeper) {
			b.sends("dev", oneAddr, 7)
			b.sends("dev", otherAddr, 0)
			b.hooks("dev", oneAddr, 0, 7)
			b.hooks("dev", otherAddr, 0, 0)
		}, Verdict{Accepted: 2, Deliveries: 2}, ""},
		"two devices in no order": {func(b bookkeeper) {
			b.sends("dev", oneAddr, 7)
			b.sends("dev2", oneAddr, 3)
			b.hooks("dev", oneAddr, 0, 7)
			b.hooks("dev2", oneAddr, 0, 3)
		}, Verdict{Accepted: 2, Deliveries: 2}, ""},
		"a downlink acknowledged and lost": {func(b bookkeeper) {
			b.pushed(1)
			b.pushed(2)
			b.arrive(arrival{kind: messages.EventDownQueued, device: "dev", eventID: "q1", push: new(uint64(2))})
			b.arrive(arrival{kind: messages.EventDownQueued, device: "dev", eventID: "q2", push: new(uint64(3))}) // its acknowledgement was lost
			b.pushed(2)
		}, Verdict{PushesLost: 1, Deliveries: 2}, "1 acknowledged downlinks lost"},
		"never sent": {func(b bookkeeper) {
			b.sends("dev", oneAddr, 0)
			b.hooks("dev", oneAddr, 0, 0, 1)
		}, Verdict{Accepted: 1, NeverSent: 1, Deliveries: 2}, "1 events of uplinks that were never sent"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := bookkeeper{newJudge()}
			c.write(b)
			v := b.verdict(time.Second, time.Minute)
			if diff := cmp.Diff(c.want, *v, cmpopts.IgnoreFields(Verdict{}, "Outage", "Interrupted", "Marks", "Examples")); diff != "" {
				t.Errorf("verdict (-want +got):\n%s", diff)
			}
			if said := strings.Join(Report{Verdict: v}.Violations(), "; "); said != c.bad {
				t.Errorf("violations %q, want %q", said, c.bad)
			}
			if (c.bad == "") != (len(v.Examples) == 0) {
				t.Errorf("examples %q", v.Examples)
			}
		})
	}
}

// TestOutages lets three devices send each second and one mark come at 10 s: the first device notices nothing, the second has nothing from 9 s to 15 s,
// the third nothing after 9 s.
func TestOutages(t *testing.T) {
	t.Parallel()
	b := bookkeeper{newJudge()}
	for i := range uint32(30) {
		at := time.Duration(i) * time.Second
		for _, device := range []string{"steady", "out", "dead"} {
			b.sends(device, oneAddr, i)
			if device == "steady" || i < 10 || device == "out" && i >= 15 {
				b.hooks(device, oneAddr, at, i)
				b.acked(device, oneAddr, uint64(i)+100, at+time.Second) // known already
			}
		}
	}
	start := time.Now()
	b.mark(Mark{Name: "early", At: start}, 5500*time.Millisecond)
	b.mark(Mark{Name: "kill", At: start}, 9500*time.Millisecond)
	v := b.verdict(time.Second, 29*time.Second)
	const s = Seconds(time.Second)
	want := Verdict{Outage: Spread{Devices: 3, Median: 5 * s, P99: 19 * s, Max: 19 * s}, Interrupted: Spread{Devices: 2, Min: 5 * s, Median: 19 * s, P99: 19 * s, Max: 19 * s}, Marks: []MarkReport{
		// The mark at 9.5 s ends the time of the first; the gaps that are open then began in it.
		{Name: "early", Outage: Spread{Devices: 3, Median: 5 * s, P99: 19 * s, Max: 19 * s},
			Interrupted: Spread{Devices: 2, Min: 5 * s, Median: 19 * s, P99: 19 * s, Max: 19 * s}, First: Spread{Devices: 3, Min: s / 2, Median: s / 2, P99: s / 2, Max: s / 2}},
		{Name: "kill", Outage: Spread{Devices: 3, Median: 5 * s, P99: 19 * s, Max: 19 * s}, Interrupted: Spread{Devices: 2, Min: 5 * s, Median: 19 * s, P99: 19 * s, Max: 19 * s},
			First: Spread{Devices: 2, Min: s / 2, Median: 11 * s / 2, P99: 11 * s / 2, Max: 11 * s / 2}, Unserved: 1},
	}}
	if diff := cmp.Diff(want, Verdict{Outage: v.Outage, Interrupted: v.Interrupted, Marks: v.Marks}); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	r := Report{Verdict: v, Refused: map[messages.TxError]uint64{messages.TxTooLate: 3}}
	if p := r.Problems(); len(p) > 0 {
		t.Errorf("an interruption at a mark is no problem: %q", p)
	}
	v.Marks = nil
	if p := r.Problems(); len(p) != 2 {
		t.Errorf("without marks all uplinks must be accepted and all downlinks sent: %q", p)
	}
}

func TestFCntDownViolations(t *testing.T) {
	t.Parallel()
	r := Report{FCntDownReused: 2, JoinNonceReused: 1, Rejected: map[Reason]uint64{FCntTooLow: 3, OutsideWindow: 9}, Verdict: &Verdict{Marks: make([]MarkReport, 1)}}
	want := []string{"2 times a FCntDown was used for two contents", "3 times a FCntDown went back", "1 times a JoinNonce was used twice"}
	if diff := cmp.Diff(want, r.Problems()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestRunIsJudged runs against a server that tells MQTT of every uplink, but loses one for the webhook, repeats one, and publishes one under two ids.
func TestRunIsJudged(t *testing.T) {
	t.Parallel()
	s := startStack(t, nil)
	n := 0
	s.deliver = func(device, kind string, post func(id string)) {
		id := fmt.Sprint(device, kind, n)
		switch n++; n {
		case 3: // lost
		case 5:
			post(id)
			post(id)
		case 7:
			post(id)
			post(id + "!")
		default:
			post(id)
		}
	}
	cfg := s.config()
	cfg.Activation, cfg.Devices, cfg.Count, cfg.Confirmed, cfg.WebhookListen, cfg.Drain = ABP, 4, 40, 0.5, "127.0.0.1:0", 15*time.Second
	var accepted atomic.Int64
	cfg.Accepted = func(string) { accepted.Add(1) }
	marks := make(chan Mark, 1)
	marks <- Mark{Name: "nothing", At: time.Now()}
	cfg.Marks = marks
	r := runFor(t, cfg, io.Discard)
	v := r.Verdict
	if v == nil || v.Accepted != 40 || v.Lost != 1 || v.Repeated != 1 || v.PublishedTwice != 1 || v.Deliveries != 41 || accepted.Load() != 40 || len(v.Marks) != 1 || v.Outage.Devices != 4 {
		t.Errorf("verdict %+v, %d accepted", v, accepted.Load())
	}
	if p := r.Problems(); len(p) != 2 {
		t.Errorf("problems %q", p)
	}
	if s.calls["DELETE /api/v3/as/webhooks/simulation/"+webhookID(s)] != 1 {
		t.Errorf("the webhook stays: %v", s.calls)
	}
	var table strings.Builder
	if err := r.WriteTable(&table); err != nil || !strings.Contains(table.String(), "lost 1, downlinks lost 0, published twice 1") {
		t.Errorf("%v:\n%s", err, &table)
	}
}

func webhookID(s *fakeStack) string {
	for call := range s.calls {
		if id, ok := strings.CutPrefix(call, "DELETE /api/v3/as/webhooks/simulation/"); ok {
			return id
		}
	}
	return ""
}

// TestStopEndsTheLoad stops a run that would go on for an hour.
func TestStopEndsTheLoad(t *testing.T) {
	t.Parallel()
	s := startStack(t, nil)
	cfg := s.config()
	stop := make(chan struct{})
	var accepted atomic.Int64
	cfg.Activation, cfg.Devices, cfg.Duration, cfg.WebhookListen, cfg.Stop = ABP, 4, time.Hour, "127.0.0.1:0", stop
	cfg.Accepted = func(string) {
		if accepted.Add(1) == 50 {
			close(stop)
		}
	}
	if r := runFor(t, cfg, io.Discard); len(r.Problems()) > 0 || r.Verdict.Accepted < 50 || r.Verdict.Accepted != r.Uplinks {
		t.Errorf("problems %q, verdict %+v", r.Problems(), r.Verdict)
	}
}

// TestGatewayMovesToAnotherServer lets the first server fall silent with a frame in hand: the next one gets that frame, those that follow, and the
// downlinks.
func TestGatewayMovesToAnotherServer(t *testing.T) {
	t.Parallel()
	for name, forget := range map[string]bool{"and sends again": false, "and forgets": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			id := MakeIdentity(7, 0, ABP)
			first := startFake(t, nil, id)
			second := startFake(t, func(s *fakeServer) { s.echo = true }, id)
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			air := NewAir(AirConfig{})
			defer air.Close()
			g, err := air.OpenGateway(ctx, GatewayConfig{EUI: gatewayEUI(7, 0), Server: first.addr(), Others: []string{second.addr()}, Forget: forget})
			if err != nil {
				t.Fatal(err)
			}
			if err := g.WaitConnected(ctx); err != nil {
				t.Fatal(err)
			}
			d, err := air.AddDevice(MACConfig{ABP: id.ABP, Region: EU868, DataRate: -1}, g)
			if err != nil {
				t.Fatal(err)
			}
			send := func() {
				if _, err := d.Send(Uplink{FPort: 1, Payload: []byte("x")}); err != nil {
					t.Fatal(err)
				}
			}
			send()
			waitFor(ctx, t, "the first PUSH_ACK", func() bool { return g.Stats().Acknowledged == 1 })
			first.mu.Lock()
			first.dropAll = true
			first.mu.Unlock()
			send()
			waitFor(ctx, t, "the move", func() bool { s := g.Stats(); return s.Moves > 0 && s.Acknowledged+s.Abandoned == s.Sent })
			if forget {
				send()
			}
			if down, err := d.WaitDownlink(ctx); err != nil || string(down.Payload) != "x" {
				t.Errorf("downlink %+v, %v", down, err)
			}
			s := g.Stats()
			if n, _ := second.seen(); n != 1 || forget != (s.Abandoned == 1) || s.Moves != 1 {
				t.Errorf("the second server saw %d frames; %+v", n, s)
			}
		})
	}
}

func waitFor(ctx context.Context, t *testing.T, what string, done func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("never: %s", what)
		}
	}
}

func TestRESTGoesOnToTheNextServer(t *testing.T) {
	t.Parallel()
	var busy, refused atomic.Int64
	unavailable := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		busy.Add(1)
		w.WriteHeader(http.StatusServiceUnavailable)
	}))
	defer unavailable.Close()
	good := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/api/v3/no" {
			refused.Add(1)
			w.WriteHeader(http.StatusNotFound)
			return
		}
		_, _ = io.WriteString(w, `{"n":1}`)
	}))
	defer good.Close()
	gone := httptest.NewServer(nil)
	gone.Close()
	c := NewClient(strings.Join([]string{gone.URL, unavailable.URL, good.URL}, ","), "key")
	var out struct{ N int }
	for range 2 {
		if err := c.Do(context.Background(), "POST", "/yes", object{}, &out); err != nil || out.N != 1 {
			t.Fatalf("got %v, %+v", err, out)
		}
	}
	if err := c.Do(context.Background(), "GET", "/no", nil, nil); err == nil || busy.Load() != 1 || refused.Load() != 1 {
		t.Errorf("a refusal is final, and the server that answered is asked first: %v, %d, %d", err, busy.Load(), refused.Load())
	}
}

func TestGatewaysAreSpread(t *testing.T) {
	t.Parallel()
	id := MakeIdentity(1, 0, ABP)
	var servers []string
	var fakes []*fakeServer
	for range 3 {
		f := startFake(t, nil, id)
		fakes, servers = append(fakes, f), append(servers, f.addr())
	}
	cfg := DefaultConfig()
	cfg.UDP, cfg.HTTP, cfg.MQTT = strings.Join(servers, ","), "", ""
	cfg.Activation, cfg.Devices, cfg.Gateways, cfg.Copies, cfg.Duration, cfg.Count, cfg.Rate, cfg.RealTime, cfg.Seed = ABP, 1, 6, 6, 0, 1, 100, false, 1
	if r := runFor(t, cfg, io.Discard); r.FramesAcked != 6 || r.GatewayMoves != 0 {
		t.Errorf("report %+v", r)
	}
	var got []int
	for _, f := range fakes {
		n, _ := f.seen()
		got = append(got, n)
	}
	if !slices.Equal(got, []int{2, 2, 2}) {
		t.Errorf("frames by server: %v", got)
	}
}
