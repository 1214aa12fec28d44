// Package radiogateway decides which radio gateway sends a downlink, in which window, and what to try when it can't.
//
// It is pure: time comes in as an argument, and nothing but a Schedule is changed. A shell asks Plan.Next for an attempt, has the
// radio gateway carry it out, tells Plan.Report how that went, and asks again.
package radiogateway

import (
	"bytes"
	"cmp"
	"slices"
	"time"

	"lorikeet/messages"
)

// Candidate is one radio gateway that heard the uplink, or, for an immediate transmission, one that may reach the device.
type Candidate struct {
	GatewayEUI  messages.EUI64
	UplinkToken []byte
	Timestamp   uint32 // counter of the concentrator at the end of the uplink, µs
	SNR, RSSI   float32
	ReceivedAt  time.Time     // by the clock of the server
	Backhaul    time.Duration // how long the uplink was under way to the server, if known
}

// Window is one chance of the device to hear.
type Window struct {
	Delay     time.Duration // from the end of the uplink
	Frequency uint64        // Hz
	DataRate  messages.DataRate
	Power     float32 // dBm EIRP
	Fits      bool    // the PHYPayload is within the limit of the data rate
	Immediate bool    // class C: send at once; Delay is not used
}

// Transmission is one PHYPayload that is to reach a device.
type Transmission struct {
	PHYPayload     []byte
	UplinkDataRate messages.DataRate // of the uplink: what its SNR is worth
	Candidates     []Candidate
	Windows        []Window      // RX1, RX2
	Lead           time.Duration // what a radio gateway needs before the start of an emission; 0 is DefaultLead
}

// DefaultLead is Transmission.Lead if it is not set.
const DefaultLead = 100 * time.Millisecond

// FairMargin is the link margin in dB above which the least loaded radio gateway is preferred to the best.
const FairMargin = 10

// Reason says why a Plan has no attempt.
type Reason string

const (
	None      Reason = ""
	Sent      Reason = "sent"       // the radio gateway took it, or may have
	Pending   Reason = "pending"    // the last attempt was not reported
	NoGateway Reason = "no_gateway" // no radio gateway can answer
	TooLarge  Reason = "too_large"  // the PHYPayload fits no window
	TooLate   Reason = "too_late"   // no window has enough lead
	Overlap   Reason = "overlap"    // the radio gateways are on air then
	DutyCycle Reason = "duty_cycle" // the radio gateways have used up their time on air
	Refused   Reason = "refused"    // the radio gateways refused; see Plan.LastError
)

// Plan is the way of one Transmission over windows and radio gateways. It is for one goroutine.
type Plan struct {
	tx      Transmission
	order   []Candidate // best first; set by the first Next
	open    int         // windows before this one are over
	tried   map[attempt]bool
	current *attempt
	held    emission // of current, by the Schedule
	done    bool
	lastErr messages.TxError
}

type attempt struct {
	gateway messages.EUI64
	window  int
}

// New plans tx. It keeps a copy of the PHYPayload: all attempts send the same bytes, since a frame counter is spent on them.
func New(tx Transmission) *Plan {
	tx.PHYPayload = bytes.Clone(tx.PHYPayload)
	if tx.Lead <= 0 {
		tx.Lead = DefaultLead
	}
	return &Plan{tx: tx, tried: make(map[attempt]bool)}
}

// LastError is what the last radio gateway answered.
func (p *Plan) LastError() messages.TxError { return p.lastErr }

// Next gives the next attempt and reserves its time on air in st. If there is none, ok is false and reason tells why.
// Each attempt must be reported before Next is asked again.
func (p *Plan) Next(now time.Time, st *Schedule) (req messages.TxRequest, ok bool, reason Reason) {
	switch {
	case p.done:
		return req, false, Sent
	case p.current != nil:
		return req, false, Pending
	}
	if p.order == nil {
		p.order = p.ranked(now, st)
	}
	reason = NoGateway
	for _, c := range p.order {
		for i, w := range p.tx.Windows {
			a := attempt{gateway: c.GatewayEUI, window: i}
			if i < p.open || p.tried[a] {
				continue
			}
			e, why := p.emission(c, w, now, st)
			if why == None {
				why = st.admit(st.gateway(c.GatewayEUI, now), e)
			}
			if why != None {
				reason = moreTelling(reason, why)
				continue
			}
			st.reserve(st.gateway(c.GatewayEUI, now), e)
			p.tried[a], p.current, p.held = true, &a, e
			return p.request(c, w, e), true, None
		}
	}
	if p.lastErr != messages.TxOK {
		reason = Refused
	}
	return req, false, reason
}

// moreTelling is the reason of the attempt that came nearer to being made.
func moreTelling(a, b Reason) Reason {
	order := [...]Reason{NoGateway, TooLarge, TooLate, DutyCycle, Overlap}
	if slices.Index(order[:], b) > slices.Index(order[:], a) {
		return b
	}
	return a
}

// emission is c sending in w, if there is still time.
func (p *Plan) emission(c Candidate, w Window, now time.Time, st *Schedule) (e emission, reason Reason) {
	if !w.Fits {
		return e, TooLarge
	}
	e = emission{start: now, airtime: Airtime(w.DataRate, len(p.tx.PHYPayload)), band: st.band(w.Frequency)}
	if w.Immediate {
		return e, None
	}
	if c.UplinkToken == nil {
		return e, NoGateway
	}
	e.start = c.ReceivedAt.Add(w.Delay - c.Backhaul)
	e.tmst, e.hasTmst = c.Timestamp+uint32(w.Delay.Microseconds()), true
	if e.start.Sub(now) < p.tx.Lead {
		return e, TooLate
	}
	return e, None
}

func (p *Plan) request(c Candidate, w Window, e emission) messages.TxRequest {
	req := messages.TxRequest{
		GatewayEUI: c.GatewayEUI, UplinkToken: c.UplinkToken, PHYPayload: bytes.Clone(p.tx.PHYPayload),
		Frequency: w.Frequency, DataRate: w.DataRate, Power: w.Power, Timing: messages.TxAtTimestamp, Timestamp: e.tmst,
	}
	if w.Immediate {
		req.Timing, req.Timestamp = messages.TxImmediately, 0
	}
	return req
}

// Report tells how the attempt of the last Next went. What was refused frees its time on air; the next window of the same radio gateway
// comes next, then the other radio gateways. A radio gateway without a path is out. An attempt that was not answered may be on air: it keeps its
// time, its window is over for all, lest two radio gateways send over each other, and other radio gateways come first; but it counts as
// sent if the radio gateway is one that never answers.
func (p *Plan) Report(result messages.TxError, now time.Time, st *Schedule) {
	if p.current == nil {
		return
	}
	eui := p.current.gateway
	g := st.gateway(eui, now)
	switch result {
	case messages.TxOK:
		g.answered, g.unanswered, g.failedAt = true, 0, time.Time{}
		p.done = true
	case messages.TxUnanswered:
		g.unanswered++
		p.done = !g.answered && g.unanswered >= silentAfter
		if !p.done {
			g.failedAt = now
		}
		p.open = p.current.window + 1
		i := slices.IndexFunc(p.order, func(c Candidate) bool { return c.GatewayEUI == eui })
		c := p.order[i]
		p.order = append(slices.Delete(p.order, i, i+1), c)
	case messages.TxNoPath:
		g.failedAt = now
		st.release(g, p.held)
		p.order = slices.DeleteFunc(p.order, func(c Candidate) bool { return c.GatewayEUI == eui })
	default:
		g.answered, g.unanswered, g.failedAt = true, 0, now
		st.release(g, p.held)
	}
	p.lastErr, p.current = result, nil
}

// ranked gives the candidates, best first, one for each radio gateway.
func (p *Plan) ranked(now time.Time, st *Schedule) []Candidate {
	required, lora := RequiredSNR(p.tx.UplinkDataRate.SpreadingFactor)
	lora = lora && p.tx.UplinkDataRate.Modulation == messages.LoRa
	type rated struct {
		Candidate
		margin float32
		load   time.Duration
	}
	best := make(map[messages.EUI64]rated, len(p.tx.Candidates))
	for _, c := range p.tx.Candidates {
		r := rated{Candidate: c}
		if lora {
			r.margin = c.SNR - required
		}
		if g := st.gateways[c.GatewayEUI]; g != nil {
			r.load = g.use[len(g.use)-1].within(now)
			if !g.failedAt.IsZero() && now.Sub(g.failedAt) < penaltyTime {
				r.margin -= penalty
			}
		}
		if other, ok := best[c.GatewayEUI]; !ok || other.UplinkToken == nil || c.UplinkToken != nil && r.margin > other.margin {
			best[c.GatewayEUI] = r
		}
	}
	all := make([]rated, 0, len(best))
	for _, r := range best {
		all = append(all, r)
	}
	slices.SortFunc(all, func(a, b rated) int {
		fairA, fairB := a.margin >= FairMargin, b.margin >= FairMargin
		switch {
		case fairA != fairB:
			return cmp.Compare(b.margin, a.margin)
		case fairA && a.load != b.load:
			return cmp.Compare(a.load, b.load)
		}
		return cmp.Or(cmp.Compare(b.margin, a.margin), cmp.Compare(b.RSSI, a.RSSI), cmp.Compare(string(a.GatewayEUI[:]), string(b.GatewayEUI[:])))
	})
	out := make([]Candidate, len(all))
	for i, r := range all {
		out[i] = r.Candidate
	}
	return out
}
