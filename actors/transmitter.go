package actors

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"lorikeet/actors/device"
	"lorikeet/actors/radiogateway"
	"lorikeet/messages"
)

// TransmitterConfig configures a Transmitter.
type TransmitterConfig struct {
	// Send has one radio gateway send one frame once, and waits for its answer until ctx ends.
	Send func(ctx context.Context, req messages.TxRequest) messages.TxError
	// SubBands limit the time on air of each radio gateway; nil: no limit beside its own.
	SubBands   []radiogateway.SubBand
	Clock      func() time.Time
	Log        *slog.Logger
	Registerer prometheus.Registerer
}

// Transmitter carries radiogateway.Plan: one goroutine per answer asks for the next attempt, has it sent and reports.
// All share one Schedule, so that no radio gateway is asked for two emissions at once.
type Transmitter struct {
	cfg     TransmitterConfig
	results *prometheus.CounterVec

	mu       sync.Mutex
	schedule *radiogateway.Schedule
	tidied   time.Time

	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

// NewTransmitter makes a Transmitter.
func NewTransmitter(cfg TransmitterConfig) *Transmitter {
	t := &Transmitter{
		cfg: cfg, schedule: radiogateway.NewSchedule(cfg.SubBands),
		results: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "lorikeet_downlinks_total", Help: "Class A answers by outcome, after all windows and radio gateways."}, []string{"outcome"}),
	}
	if cfg.Registerer != nil {
		cfg.Registerer.MustRegister(t.results)
	}
	t.ctx, t.cancel = context.WithCancel(context.Background())
	return t
}

// Transmit starts to send an answer and returns at once. report is called once, unless the Transmitter is closed meanwhile.
func (t *Transmitter) Transmit(tx *device.Transmit, report func(result messages.TxError, missed bool)) {
	plan := radiogateway.New(planned(tx))
	t.wg.Go(func() {
		result, missed := t.carry(plan, tx)
		outcome := string(result)
		switch {
		case missed:
			outcome = "missed"
		case result == messages.TxOK:
			outcome = "sent"
		}
		t.results.WithLabelValues(outcome).Inc()
		if t.ctx.Err() == nil {
			report(result, missed)
		}
	})
}

func planned(tx *device.Transmit) radiogateway.Transmission {
	out := radiogateway.Transmission{PHYPayload: tx.PHYPayload, UplinkDataRate: tx.Candidates[0].Settings.DataRate}
	for _, w := range tx.Windows {
		out.Windows = append(out.Windows, radiogateway.Window{Delay: w.Delay, Frequency: uint64(w.Frequency), DataRate: w.DataRate, Power: w.Power, Fits: true})
	}
	for i := range tx.Candidates {
		for j := range tx.Candidates[i].Rx {
			rx := &tx.Candidates[i].Rx[j]
			out.Candidates = append(out.Candidates, radiogateway.Candidate{
				GatewayEUI: rx.GatewayEUI, UplinkToken: rx.UplinkToken, Timestamp: rx.Timestamp, SNR: rx.SNR, RSSI: rx.RSSI, ReceivedAt: rx.ReceivedAt,
			})
		}
	}
	return out
}

// carry tries until a radio gateway takes the frame or none is left. missed says that nothing was tried because no window was free or in reach.
func (t *Transmitter) carry(plan *radiogateway.Plan, tx *device.Transmit) (result messages.TxError, missed bool) {
	unanswered := false
	for {
		req, ok, reason := t.next(plan)
		if !ok {
			return t.outcome(plan, reason, unanswered)
		}
		ctx, cancel := context.WithDeadline(t.ctx, t.deadline(req, tx))
		result := t.cfg.Send(ctx, req)
		cancel()
		unanswered = unanswered || result == messages.TxUnanswered
		if result != messages.TxOK && result != messages.TxUnanswered {
			t.cfg.Log.Info("radio gateway refused a downlink", "gateway_eui", req.GatewayEUI, "tx_error", string(result))
		}
		t.mu.Lock()
		plan.Report(result, t.cfg.Clock(), t.schedule)
		t.mu.Unlock()
	}
}

func (t *Transmitter) next(plan *radiogateway.Plan) (messages.TxRequest, bool, radiogateway.Reason) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.cfg.Clock()
	if now.Sub(t.tidied) > time.Minute {
		t.schedule.Forget(now)
		t.tidied = now
	}
	return plan.Next(now, t.schedule)
}

// outcome: a frame that a radio gateway may have sent counts as sent, whatever another one answered.
func (t *Transmitter) outcome(plan *radiogateway.Plan, reason radiogateway.Reason, unanswered bool) (messages.TxError, bool) {
	switch {
	case unanswered:
		return messages.TxUnanswered, false
	case reason == radiogateway.Sent:
		return messages.TxOK, false
	case plan.LastError() != messages.TxOK:
		return plan.LastError(), false
	case reason == radiogateway.NoGateway:
		return messages.TxNoPath, false
	}
	return messages.TxTooLate, true
}

// deadline is when the radio gateway must have answered: at the start of the emission there is still time for another window.
func (t *Transmitter) deadline(req messages.TxRequest, tx *device.Transmit) time.Time {
	soonest := t.cfg.Clock().Add(300 * time.Millisecond)
	for i := range tx.Candidates {
		for j := range tx.Candidates[i].Rx {
			if rx := &tx.Candidates[i].Rx[j]; rx.GatewayEUI == req.GatewayEUI {
				start := rx.ReceivedAt.Add(time.Duration(req.Timestamp-rx.Timestamp) * time.Microsecond)
				if start.After(soonest) {
					return start
				}
			}
		}
	}
	return soonest
}

// Close gives up what is being sent and waits until it has ended.
func (t *Transmitter) Close() {
	t.cancel()
	t.wg.Wait()
}
