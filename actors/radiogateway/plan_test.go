package radiogateway

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"lorikeet/messages"
)

var (
	gwA = messages.EUI64{0xa}
	gwB = messages.EUI64{0xb}
	gwC = messages.EUI64{0xc}
)

// uplinkAt is when the tests' uplink was received; RX1 is a second later.
func uplinkAt() time.Time { return time.Date(2025, 3, 1, 12, 0, 0, 0, time.UTC) }

func at(ms int) time.Time { return uplinkAt().Add(time.Duration(ms) * time.Millisecond) }

func heard(eui messages.EUI64, snr float32) Candidate {
	return Candidate{GatewayEUI: eui, UplinkToken: []byte{eui[0]}, Timestamp: 1_000_000, SNR: snr, RSSI: -100, ReceivedAt: uplinkAt()}
}

func answer(candidates ...Candidate) Transmission {
	return Transmission{
		PHYPayload:     []byte("a downlink of 20 b.."),
		UplinkDataRate: lora(7, 125_000),
		Candidates:     candidates,
		Windows: []Window{
			{Delay: time.Second, Frequency: 868_100_000, DataRate: lora(7, 125_000), Power: 16, Fits: true},
			{Delay: 2 * time.Second, Frequency: 869_525_000, DataRate: lora(12, 125_000), Power: 29, Fits: true},
		},
	}
}

// step is one answer of a radio gateway to an attempt in a window (1 or 2).
type step struct {
	now     int // ms after the uplink
	gateway messages.EUI64
	window  int
	result  messages.TxError
}

func TestPlan(t *testing.T) {
	t.Parallel()
	only := func(tx Transmission, i int) Transmission {
		tx.Windows = tx.Windows[i : i+1]
		return tx
	}
	tooLarge := answer(heard(gwA, 5))
	tooLarge.Windows[0].Fits, tooLarge.Windows[1].Fits = false, false
	rx2TooSmall := answer(heard(gwA, 5))
	rx2TooSmall.Windows[1].Fits = false
	noToken := heard(gwA, 9)
	noToken.UplinkToken = nil
	slow := heard(gwA, 5)
	slow.Backhaul = 300 * time.Millisecond
	fsk := answer(heard(gwA, -30), heard(gwB, -30))
	fsk.UplinkDataRate = messages.DataRate{Modulation: messages.FSK, BitRate: 50_000}

	for _, tt := range []struct {
		name  string
		tx    Transmission
		steps []step
		end   int // when Next has no more
		want  Reason
	}{
		{"RX1 of the best", answer(heard(gwB, -3), heard(gwA, -1)), []step{{100, gwA, 1, ""}}, 200, Sent},
		{"RX2 if RX1 is near", answer(heard(gwA, 5)), []step{{901, gwA, 2, ""}}, 1000, Sent},
		{"RX1 with just enough lead", answer(heard(gwA, 5)), []step{{900, gwA, 1, ""}}, 1000, Sent},
		{"backhaul counts", answer(slow), []step{{601, gwA, 2, ""}}, 1000, Sent},
		{"too late for all", answer(heard(gwA, 5)), nil, 1901, TooLate},
		{"refused in RX1, RX2 of the same", answer(heard(gwA, 5), heard(gwB, 1)), []step{
			{100, gwA, 1, messages.TxTooLate}, {200, gwA, 2, ""}}, 300, Sent},
		{"then the next radio gateway", answer(heard(gwA, 1), heard(gwB, -1)), []step{
			{100, gwA, 1, messages.TxCollisionPacket}, {200, gwA, 2, messages.TxFrequency}, {300, gwB, 1, messages.TxTooLate}, {400, gwB, 2, ""}}, 500, Sent},
		{"the next radio gateway in RX2 if RX1 is over", answer(heard(gwA, 1), heard(gwB, -1)), []step{
			{800, gwA, 1, messages.TxCollisionPacket}, {850, gwA, 2, messages.TxPower}, {950, gwB, 2, ""}}, 1000, Sent},
		{"no path: next at once", answer(heard(gwA, 1), heard(gwB, -1)), []step{
			{100, gwA, 1, messages.TxNoPath}, {100, gwB, 1, ""}}, 200, Sent},
		{"unanswered: RX2, others first", answer(heard(gwA, 1), heard(gwB, -1)), []step{
			{100, gwA, 1, messages.TxUnanswered}, {700, gwB, 2, ""}}, 800, Sent},
		{"unanswered, no other", answer(heard(gwA, 1)), []step{
			{100, gwA, 1, messages.TxUnanswered}, {700, gwA, 2, messages.TxUnanswered}}, 1800, Refused},
		{"all refuse", only(answer(heard(gwA, 1), heard(gwB, -1)), 0), []step{
			{100, gwA, 1, messages.TxTooEarly}, {200, gwB, 1, messages.TxUnknown}}, 300, Refused},
		{"nobody heard it", answer(), nil, 100, NoGateway},
		{"no way back", answer(noToken), nil, 100, NoGateway},
		{"the antenna with a way back", answer(noToken, heard(gwA, 1)), []step{{100, gwA, 1, ""}}, 200, Sent},
		{"fits no window", tooLarge, nil, 100, TooLarge},
		{"too large for RX2", rx2TooSmall, nil, 950, TooLate},
		{"FSK has no margin", fsk, []step{{100, gwA, 1, ""}}, 200, Sent},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			st := NewSchedule(EU868())
			p := New(tt.tx)
			for i, s := range tt.steps {
				req, ok, reason := p.Next(at(s.now), st)
				if !ok {
					t.Fatalf("step %d: no attempt: %s", i, reason)
				}
				w := tt.tx.Windows[min(s.window, len(tt.tx.Windows))-1]
				want := messages.TxRequest{
					GatewayEUI: s.gateway, UplinkToken: []byte{s.gateway[0]}, PHYPayload: tt.tx.PHYPayload, Frequency: w.Frequency, DataRate: w.DataRate,
					Power: w.Power, Timestamp: 1_000_000 + uint32(s.window)*1_000_000,
				}
				if diff := cmp.Diff(want, req); diff != "" {
					t.Fatalf("step %d (-want +got):\n%s", i, diff)
				}
				if _, ok, reason := p.Next(at(s.now), st); ok || reason != Pending {
					t.Fatalf("step %d: second attempt before the report: %v, %s", i, ok, reason)
				}
				p.Report(s.result, at(s.now), st)
			}
			if req, ok, reason := p.Next(at(tt.end), st); ok || reason != tt.want {
				t.Errorf("end: got %+v, %v, %q, want %q", req, ok, reason, tt.want)
			}
		})
	}
}

func TestPlanWraps(t *testing.T) {
	t.Parallel()
	c := heard(gwA, 5)
	c.Timestamp = 0xffff_fff0
	req, ok, _ := New(answer(c)).Next(at(0), NewSchedule(nil))
	if want := uint32(1_000_000 - 16); !ok || req.Timestamp != want {
		t.Errorf("got %d, %v, want %d", req.Timestamp, ok, want)
	}
}

func TestPlanImmediate(t *testing.T) {
	t.Parallel()
	tx := answer(Candidate{GatewayEUI: gwA})
	tx.Windows = []Window{{Frequency: 869_525_000, DataRate: lora(12, 125_000), Power: 29, Fits: true, Immediate: true}}
	st := NewSchedule(EU868())
	req, ok, reason := New(tx).Next(at(5000), st)
	if !ok || req.Timing != messages.TxImmediately || req.Timestamp != 0 {
		t.Fatalf("got %+v, %v, %q", req, ok, reason)
	}
	if _, ok, reason := New(tx).Next(at(5100), st); ok || reason != Overlap {
		t.Errorf("while on air: got %v, %q, want %q", ok, reason, Overlap)
	}
	if _, ok, reason := New(tx).Next(at(9000), st); !ok {
		t.Errorf("after it: %q", reason)
	}
}

func TestLeastLoadedAmongTheGood(t *testing.T) {
	t.Parallel()
	st := NewSchedule(nil)
	// gwA and gwB both have more than 10 dB to spare, gwC has less.
	tx := answer(heard(gwA, 9), heard(gwB, 5), heard(gwC, 2))
	count := map[messages.EUI64]int{}
	for i := range 10 {
		for j := range tx.Candidates {
			tx.Candidates[j].ReceivedAt = at(5000 * i)
			tx.Candidates[j].Timestamp = uint32(5_000_000 * i)
		}
		p := New(tx)
		req, ok, reason := p.Next(at(5000*i), st)
		if !ok {
			t.Fatal(reason)
		}
		p.Report(messages.TxOK, at(5000*i), st)
		count[req.GatewayEUI]++
	}
	if diff := cmp.Diff(map[messages.EUI64]int{gwA: 5, gwB: 5}, count); diff != "" {
		t.Errorf("emissions (-want +got):\n%s", diff)
	}
}

func TestRecentErrorsCountAgainst(t *testing.T) {
	t.Parallel()
	st := NewSchedule(nil)
	tx := answer(heard(gwA, 2), heard(gwB, -1))
	p := New(tx)
	p.Next(at(0), st)
	p.Report(messages.TxTooLate, at(0), st)
	if req, _, _ := New(tx).Next(at(10), st); req.GatewayEUI != gwB {
		t.Errorf("after an error: %s, want %s", req.GatewayEUI, gwB)
	}
	for i := range tx.Candidates {
		tx.Candidates[i].ReceivedAt = at(60_000)
		tx.Candidates[i].Timestamp = 61_000_000
	}
	if req, _, _ := New(tx).Next(at(60_010), st); req.GatewayEUI != gwA {
		t.Errorf("a minute later: %s, want %s", req.GatewayEUI, gwA)
	}
}

func TestOverlapTakesAnotherWindowThenAnotherGateway(t *testing.T) {
	t.Parallel()
	st := NewSchedule(nil)
	tx := answer(heard(gwA, 2), heard(gwB, -1))
	var got []attempt
	for range 5 {
		req, ok, reason := New(tx).Next(at(0), st)
		if !ok {
			if reason != Overlap {
				t.Errorf("reason %q, want %q", reason, Overlap)
			}
			break
		}
		got = append(got, attempt{req.GatewayEUI, int(req.Timestamp / 1_000_000)})
	}
	want := []attempt{{gwA, 2}, {gwA, 3}, {gwB, 2}, {gwB, 3}}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(attempt{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestRefusalFreesTheTime(t *testing.T) {
	t.Parallel()
	st := NewSchedule(EU868())
	first := New(answer(heard(gwA, 2)))
	first.Next(at(0), st)
	first.Report(messages.TxCollisionPacket, at(0), st)
	if req, ok, reason := New(answer(heard(gwA, 2))).Next(at(0), st); !ok || req.Timestamp != 2_000_000 {
		t.Errorf("got %+v, %v, %q", req, ok, reason)
	}
}

func TestNeverAnsweringGatewayCountsAsSent(t *testing.T) {
	t.Parallel()
	st := NewSchedule(nil)
	c := heard(gwA, 2)
	var attempts []int
	for i := range 3 {
		c.ReceivedAt, c.Timestamp = at(10_000*i), uint32(10_000_000*i)
		p := New(answer(c))
		n := 0
		for {
			_, ok, _ := p.Next(c.ReceivedAt, st)
			if !ok {
				break
			}
			n++
			p.Report(messages.TxUnanswered, c.ReceivedAt, st)
		}
		attempts = append(attempts, n)
	}
	if diff := cmp.Diff([]int{2, 1, 1}, attempts); diff != "" {
		t.Errorf("attempts (-want +got):\n%s", diff)
	}
}

func TestConcentratorRestartFallsBackToServerTime(t *testing.T) {
	t.Parallel()
	st := NewSchedule(nil)
	New(answer(heard(gwA, 2))).Next(at(0), st)
	c := heard(gwA, 2)
	c.Timestamp = 500_000_000 // restarted: the counter says minutes apart, the clock says the same time
	req, ok, _ := New(answer(c)).Next(at(0), st)
	if !ok || req.Timestamp != 502_000_000 {
		t.Errorf("got %+v, %v, want RX2", req, ok)
	}
}

func TestDutyCycle(t *testing.T) {
	t.Parallel()
	st := NewSchedule(EU868())
	tx := answer(Candidate{GatewayEUI: gwA})
	tx.Windows = []Window{{Frequency: 868_100_000, DataRate: lora(12, 125_000), Fits: true, Immediate: true}}
	airtime := Airtime(tx.Windows[0].DataRate, len(tx.PHYPayload))
	fits := int(36 * time.Second / airtime)
	now := uplinkAt()
	for i := range fits {
		if _, ok, reason := New(tx).Next(now, st); !ok {
			t.Fatalf("emission %d of %d: %s", i, fits, reason)
		}
		now = now.Add(2 * time.Second)
	}
	if _, ok, reason := New(tx).Next(now, st); ok || reason != DutyCycle {
		t.Fatalf("one too many: %v, %q", ok, reason)
	}
	other := tx
	other.Windows = []Window{tx.Windows[0]}
	other.Windows[0].Frequency = 869_525_000
	if _, ok, reason := New(other).Next(now, st); !ok {
		t.Errorf("another sub-band: %q", reason)
	}
	st.Forget(now)
	if _, ok, _ := New(tx).Next(now.Add(55*time.Minute), st); ok {
		t.Error("allowed before the hour is over")
	}
	if _, ok, reason := New(tx).Next(now.Add(61*time.Minute), st); !ok {
		t.Errorf("an hour later: %q", reason)
	}
	st.Forget(now.Add(3 * time.Hour))
	if n := len(st.gateways); n != 0 {
		t.Errorf("%d radio gateways kept for hours", n)
	}
}
