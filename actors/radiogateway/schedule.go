package radiogateway

import (
	"time"

	"lorikeet/messages"
)

// SubBand is a part of the spectrum in which a transmitter may be on air for a share of the time. High is not part of it. Hz.
type SubBand struct {
	Low, High uint64
	DutyCycle float64 // e.g. 0.01
}

// EU868 gives the sub-bands of ETSI EN 300 220 that LoRaWAN uses in 863–870 MHz.
func EU868() []SubBand {
	return []SubBand{
		{Low: 863_000_000, High: 865_000_000, DutyCycle: 0.001},
		{Low: 865_000_000, High: 868_000_000, DutyCycle: 0.01},
		{Low: 868_000_000, High: 868_600_001, DutyCycle: 0.01},
		{Low: 868_700_000, High: 869_200_001, DutyCycle: 0.001},
		{Low: 869_400_000, High: 869_650_001, DutyCycle: 0.1},
		{Low: 869_700_000, High: 870_000_001, DutyCycle: 0.01},
	}
}

const (
	// guard is what a packet forwarder keeps free between two emissions, rounded up.
	guard = 5 * time.Millisecond
	// dutyCycleMinutes is the time over which the duty cycle is counted, in minutes.
	dutyCycleMinutes = 60
	// penaltyTime is how long an error makes a radio gateway less attractive, penalty by how much (dB).
	penaltyTime = 30 * time.Second
	penalty     = 10
	// silentAfter unanswered emissions in a row, without one that was answered, a radio gateway is one that never answers.
	silentAfter = 3
)

// Schedule is the emissions of all radio gateways: what is promised, what was sent in the last hour, and what went wrong.
// It is a plain value for one goroutine. Radio gateways that were idle for an hour are dropped by Forget.
type Schedule struct {
	subBands []SubBand
	gateways map[messages.EUI64]*gateway
}

// NewSchedule makes an empty Schedule. Without sub-bands, and outside of them, there is no duty cycle to keep.
func NewSchedule(subBands []SubBand) *Schedule {
	return &Schedule{subBands: subBands, gateways: make(map[messages.EUI64]*gateway)}
}

type gateway struct {
	emissions  []emission // not yet over for long, in no order
	use        []usage    // by sub-band; the last one is for all frequencies
	failedAt   time.Time
	unanswered int
	answered   bool
	touched    time.Time
}

// emission is a promised or finished time on air.
type emission struct {
	start   time.Time // by the clock of the server
	airtime time.Duration
	tmst    uint32 // start by the counter of the concentrator
	hasTmst bool
	band    int // index into gateway.use, -1 if there is no duty cycle
}

// usage is airtime by minute. The running minute and the 60 before it are counted, so a bit more than an hour.
type usage struct {
	minutes [dutyCycleMinutes + 1]time.Duration
	newest  int64 // minute since 1970
	total   time.Duration
}

func (u *usage) advance(minute int64) {
	if u.newest == 0 || minute-u.newest > dutyCycleMinutes {
		*u = usage{newest: max(minute, u.newest)}
		return
	}
	for u.newest < minute {
		u.newest++
		slot := &u.minutes[u.newest%int64(len(u.minutes))]
		u.total -= *slot
		*slot = 0
	}
}

// add counts airtime, or takes it back if it is negative, in the minute of at.
func (u *usage) add(at time.Time, airtime time.Duration) {
	minute := minuteOf(at)
	u.advance(minute)
	if u.newest-minute > dutyCycleMinutes {
		return
	}
	slot := &u.minutes[minute%int64(len(u.minutes))]
	airtime = max(airtime, -*slot)
	*slot += airtime
	u.total += airtime
}

func (u *usage) within(at time.Time) time.Duration {
	u.advance(minuteOf(at))
	return u.total
}

func minuteOf(t time.Time) int64 { return max(1, t.Unix()/60) }

func (s *Schedule) gateway(eui messages.EUI64, now time.Time) *gateway {
	g := s.gateways[eui]
	if g == nil {
		g = &gateway{use: make([]usage, len(s.subBands)+1)}
		s.gateways[eui] = g
	}
	g.touched = now
	return g
}

// Forget drops what no longer matters at now. Call it now and then, e.g. once a minute.
func (s *Schedule) Forget(now time.Time) {
	for eui, g := range s.gateways {
		g.forget(now)
		if now.Sub(g.touched) > (dutyCycleMinutes+1)*time.Minute {
			delete(s.gateways, eui)
		}
	}
}

// forget drops emissions that are over. They stay a minute, since the clock of the server is only nearly that of the concentrator.
func (g *gateway) forget(now time.Time) {
	kept := g.emissions[:0]
	for _, e := range g.emissions {
		if now.Sub(e.start.Add(e.airtime)) < time.Minute {
			kept = append(kept, e)
		}
	}
	g.emissions = kept
}

func (s *Schedule) band(frequency uint64) int {
	for i, b := range s.subBands {
		if frequency >= b.Low && frequency < b.High {
			return i
		}
	}
	return -1
}

// admit says why e can't be sent by the radio gateway, or "".
func (s *Schedule) admit(g *gateway, e emission) Reason {
	for _, other := range g.emissions {
		if e.overlaps(other) {
			return Overlap
		}
	}
	if e.band >= 0 {
		allowed := time.Duration(s.subBands[e.band].DutyCycle * float64(dutyCycleMinutes*time.Minute))
		if g.use[e.band].within(e.start)+e.airtime > allowed {
			return DutyCycle
		}
	}
	return None
}

func (s *Schedule) reserve(g *gateway, e emission) {
	g.emissions = append(g.emissions, e)
	g.count(e, e.airtime)
}

// release takes back an emission that the radio gateway refused.
func (s *Schedule) release(g *gateway, e emission) {
	for i, other := range g.emissions {
		if other == e {
			g.emissions[i] = g.emissions[len(g.emissions)-1]
			g.emissions = g.emissions[:len(g.emissions)-1]
			g.count(e, -e.airtime)
			return
		}
	}
}

func (g *gateway) count(e emission, airtime time.Duration) {
	if e.band >= 0 {
		g.use[e.band].add(e.start, airtime)
	}
	g.use[len(g.use)-1].add(e.start, airtime)
}

// overlaps compares by the counter of the concentrator, which is exact, if both emissions have it and it has not restarted in between;
// else by the clock of the server.
func (e emission) overlaps(o emission) bool {
	apart := e.start.Sub(o.start)
	if e.hasTmst && o.hasTmst {
		counted := time.Duration(int32(e.tmst-o.tmst)) * time.Microsecond
		const sameRun = 3 * time.Second // more than the delay of uplinks ever differs
		if (counted - apart).Abs() < sameRun {
			apart = counted
		}
	}
	return apart < o.airtime+guard && -apart < e.airtime+guard
}
