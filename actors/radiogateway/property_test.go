package radiogateway

import (
	"bytes"
	"testing"
	"time"

	"pgregory.net/rapid"

	"lorikeet/messages"
)

// onAir is an emission that a radio gateway took, by the clock of its concentrator (without wrap).
type onAir struct {
	start, end time.Duration
	at         time.Time
	frequency  uint64
}

// TestProperties lets devices be answered by a few radio gateways that answer at random, and checks what must hold whatever happens.
func TestProperties(t *testing.T) {
	t.Parallel()
	results := []messages.TxError{
		messages.TxOK, messages.TxOK, messages.TxOK, messages.TxTooLate, messages.TxCollisionPacket, messages.TxFrequency,
		messages.TxNoPath, messages.TxUnanswered, messages.TxUnknown,
	}
	rapid.Check(t, func(t *rapid.T) {
		st := NewSchedule(EU868())
		bootedAt := map[messages.EUI64]time.Time{}
		for i := range byte(3) {
			// Counters that wrap while the test runs.
			bootedAt[messages.EUI64{i}] = uplinkAt().Add(-time.Duration(rapid.Int64Range(1<<32-30_000_000, 1<<32).Draw(t, "uptime")) * time.Microsecond)
		}
		sent := map[messages.EUI64][]onAir{}
		now := uplinkAt()
		for range rapid.IntRange(1, 20).Draw(t, "uplinks") {
			now = now.Add(time.Duration(rapid.IntRange(0, 1500).Draw(t, "pause")) * time.Millisecond)
			tx := drawTransmission(t, now, bootedAt)
			clock := now
			p := New(tx)
			seen := map[attempt]bool{}
			for n := 0; ; n++ {
				if n > len(bootedAt)*len(tx.Windows) {
					t.Fatal("the plan does not end")
				}
				clock = clock.Add(time.Duration(rapid.IntRange(0, 700).Draw(t, "work")) * time.Millisecond)
				req, ok, _ := p.Next(clock, st)
				if !ok {
					break
				}
				result := rapid.SampledFrom(results).Draw(t, "result")
				checkRequest(t, tx, req, clock, seen)
				if result == messages.TxOK || result == messages.TxUnanswered {
					sent[req.GatewayEUI] = append(sent[req.GatewayEUI], emitted(req, clock, bootedAt[req.GatewayEUI]))
				}
				for i := range req.PHYPayload {
					req.PHYPayload[i] = 0 // what a careless door does must not show in the next attempt
				}
				p.Report(result, clock, st)
			}
		}
		for eui, emissions := range sent {
			checkApart(t, eui, emissions)
		}
	})
}

func drawTransmission(t *rapid.T, now time.Time, bootedAt map[messages.EUI64]time.Time) Transmission {
	tx := Transmission{
		PHYPayload:     rapid.SliceOfN(rapid.Byte(), 12, 64).Draw(t, "PHYPayload"),
		UplinkDataRate: lora(uint8(rapid.IntRange(7, 12).Draw(t, "SF")), 125_000),
		Windows: []Window{
			{Delay: time.Second, Frequency: 868_300_000, DataRate: lora(uint8(rapid.IntRange(7, 12).Draw(t, "RX1")), 125_000), Fits: rapid.Bool().Draw(t, "fits")},
			{Delay: 2 * time.Second, Frequency: 869_525_000, DataRate: lora(12, 125_000), Fits: true},
		},
	}
	for range rapid.IntRange(0, 4).Draw(t, "candidates") {
		eui := messages.EUI64{byte(rapid.IntRange(0, len(bootedAt)-1).Draw(t, "gateway"))}
		tx.Candidates = append(tx.Candidates, Candidate{
			GatewayEUI: eui, UplinkToken: []byte{1}, Timestamp: uint32(now.Sub(bootedAt[eui]).Microseconds()),
			SNR:        float32(rapid.IntRange(-20, 12).Draw(t, "SNR")),
			ReceivedAt: now.Add(time.Duration(rapid.IntRange(0, 400).Draw(t, "under way")) * time.Millisecond),
		})
	}
	return tx
}

func checkRequest(t *rapid.T, tx Transmission, req messages.TxRequest, now time.Time, seen map[attempt]bool) {
	if !bytes.Equal(req.PHYPayload, tx.PHYPayload) {
		t.Fatalf("PHYPayload %x, want %x", req.PHYPayload, tx.PHYPayload)
	}
	w := 0
	if req.Frequency == tx.Windows[1].Frequency {
		w = 1
	}
	if a := (attempt{req.GatewayEUI, w}); seen[a] {
		t.Fatalf("%+v tried twice", a)
	} else {
		seen[a] = true
	}
	if !tx.Windows[w].Fits {
		t.Fatalf("does not fit window %d", w)
	}
	for _, c := range tx.Candidates {
		if c.GatewayEUI == req.GatewayEUI && c.ReceivedAt.Add(tx.Windows[w].Delay).Sub(now) >= DefaultLead {
			return
		}
	}
	t.Fatalf("less lead than %v", DefaultLead)
}

func emitted(req messages.TxRequest, now, bootedAt time.Time) onAir {
	uptime := now.Sub(bootedAt).Microseconds()
	start := uptime + int64(int32(req.Timestamp-uint32(uptime)))
	from := time.Duration(start) * time.Microsecond
	return onAir{start: from, end: from + Airtime(req.DataRate, len(req.PHYPayload)), at: now, frequency: req.Frequency}
}

func checkApart(t *rapid.T, eui messages.EUI64, emissions []onAir) {
	for i, a := range emissions {
		for _, b := range emissions[i+1:] {
			if a.start < b.end && b.start < a.end {
				t.Fatalf("radio gateway %s: %+v and %+v overlap", eui, a, b)
			}
		}
	}
}
