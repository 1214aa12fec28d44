package semtechudp

import (
	"cmp"
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"lorikeet/messages"
)

// radioGateway is what the server knows of one radio gateway that sent something.
type radioGateway struct {
	eui messages.EUI64
	// Two rates, so that a flood in the name of the radio gateway does not use up its own.
	limit, strangers *rate.Limiter

	mu           sync.Mutex
	version      uint8
	since        time.Time
	lastPush     time.Time
	lastPull     time.Time // last PULL_DATA that was accepted
	pullAddr     netip.AddrPort
	refusedAt    time.Time // last PULL_DATA that was refused
	registeredAt time.Time // when registration was last asked for
	clock        concentrator
	pending      map[uint16]transmission
	powers       map[int64]int64 // by the powe that is wanted, the one that is asked for since more was refused; dBm
	status       *messages.GatewayStatus
	lastUplink   time.Time
	lastDownlink time.Time
	uplinks      uint64
	downlinks    uint64
	roundTrips   [roundTripWindow]time.Duration
	roundTripN   uint64
}

const roundTripWindow = 16

// silence is how long after the last PULL_DATA the next one is news to the operator.
const silence = 10 * time.Minute

// concentrator relates the counter of a radio gateway to the clock of the server.
type concentrator struct {
	tmst  uint32
	at    time.Time
	board uint32
}

type transmission struct {
	sentAt time.Time
	to     netip.Addr
	answer chan messages.TxError // holds one, so whoever answers never waits
}

// Connection is a snapshot of one radio gateway that speaks Semtech UDP.
type Connection struct {
	GatewayEUI      messages.EUI64
	ProtocolVersion uint8
	PullAddr        netip.AddrPort // source of the last PULL_DATA, where downlinks go; invalid if there was none
	ConnectedAt     time.Time      // first datagram since the server started or since a day of silence
	LastPush        time.Time
	LastPull        time.Time
	LastUplink      time.Time
	LastDownlink    time.Time
	Uplinks         uint64 // frames handed on
	Downlinks       uint64 // frames the radio gateway took
	LastStatus      *messages.GatewayStatus
	// RoundTrips are the times from PULL_RESP to TX_ACK of the last 16 downlinks that were answered, shortest first.
	RoundTrips []time.Duration
}

// allow counts a datagram from the address downlinks go to, or from any other, and says whether it is within the rate.
func (g *radioGateway) allow(from netip.Addr, size int, now time.Time) bool {
	g.mu.Lock()
	own := g.pullAddr.IsValid() && g.pullAddr.Addr() == from
	g.mu.Unlock()
	limit := g.strangers
	if own {
		limit = g.limit
	}
	return limit.AllowN(now, min(1+size>>10, limit.Burst()))
}

// pushed notes a PUSH_DATA. own is true if it comes from the IP address downlinks go to: only then its tmst says what time the concentrator has.
func (g *radioGateway) pushed(from netip.Addr, version uint8, now time.Time) (own bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.lastPull.IsZero() {
		g.version = version
	}
	g.lastPush = now
	return g.pullAddr.IsValid() && g.pullAddr.Addr() == from
}

// pulled takes the source of a PULL_DATA as the way downlinks go. It refuses another IP address while the present one was
// heard of less than block ago: there is no authentication, so otherwise anyone who knows the EUI could take the downlinks.
// The port may change at any time, as it does behind NAT. first is true when a row of refusals begins, or of others after silence.
func (g *radioGateway) pulled(from netip.AddrPort, version uint8, now time.Time, block time.Duration) (ok, first bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.pullAddr.IsValid() && g.pullAddr.Addr() != from.Addr() && now.Sub(g.lastPull) < block {
		first = now.Sub(g.refusedAt) > time.Minute
		g.refusedAt = now
		return false, first
	}
	first = now.Sub(g.lastPull) > silence
	g.pullAddr, g.version, g.lastPull = from, version, now
	return true, first
}

// path gives the address downlinks go to, unless the last PULL_DATA is older than expiry.
func (g *radioGateway) path(now time.Time, expiry time.Duration) (to netip.AddrPort, version uint8, ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.pullAddr, g.version, g.pullAddr.IsValid() && now.Sub(g.lastPull) <= expiry
}

func (g *radioGateway) received(f *messages.Frame, own bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.uplinks++
	g.lastUplink = f.ReceivedAt
	if own && f.Rx[0].UplinkToken != nil {
		g.clock = concentrator{tmst: f.Settings.Timestamp, at: f.ReceivedAt, board: f.Rx[0].Board}
	}
}

func (g *radioGateway) reported(st messages.GatewayStatus) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.status = &st
}

// schedulable says whether a frame for time tmst of the concentrator can still be sent, as far as the server knows. After the
// concentrator has restarted the timestamps of before mean another moment: such a frame must not reach it.
func (g *radioGateway) schedulable(tmst uint32, board uint8, now time.Time) messages.TxError {
	g.mu.Lock()
	c := g.clock
	g.mu.Unlock()
	elapsed := now.Sub(c.at)
	if c.at.IsZero() || c.board != uint32(board) || elapsed < 0 || elapsed > 10*time.Minute {
		return messages.TxOK
	}
	// The uplink took a while to get here, so the counter is at counter or a little later.
	counter := c.tmst + uint32(elapsed.Microseconds())
	switch ahead := time.Duration(int32(tmst-counter)) * time.Microsecond; {
	case ahead < 0:
		return messages.TxTooLate
	case ahead > time.Minute:
		return messages.TxTooEarly
	}
	return messages.TxOK
}

// expect notes that a TX_ACK with token is waited for. ok is false if the token is taken.
func (g *radioGateway) expect(token uint16, to netip.Addr, now time.Time) (<-chan messages.TxError, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if _, taken := g.pending[token]; taken {
		return nil, false
	}
	if g.pending == nil {
		g.pending = make(map[uint16]transmission)
	}
	t := transmission{sentAt: now, to: to, answer: make(chan messages.TxError, 1)}
	g.pending[token] = t
	return t.answer, true
}

// maxBackOff is how far below the power that is wanted a radio gateway is asked to send, in dB. Tables of packet forwarders end at 27 or 20 dBm and have
// gaps of up to 4 dB.
const maxBackOff = 12

// power is the powe to ask for if wanted is wanted.
func (g *radioGateway) power(wanted int64) int64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	if p, ok := g.powers[wanted]; ok {
		return p
	}
	return wanted
}

// refusedPower notes that the radio gateway refused powe, and gives what to try next. ok is false if that is too little: then the next downlink begins anew.
func (g *radioGateway) refusedPower(wanted, powe int64) (next int64, ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if p, known := g.powers[wanted]; known && p < powe {
		return p, true // another downlink knows more
	}
	if wanted-powe >= maxBackOff {
		delete(g.powers, wanted)
		return 0, false
	}
	if g.powers == nil {
		g.powers = make(map[int64]int64)
	}
	g.powers[wanted] = powe - 1
	return powe - 1, true
}

func (g *radioGateway) forget(token uint16) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.pending, token)
}

// answered hands the result of a TX_ACK with this body to whoever waits for it. The body is read only if someone does.
func (g *radioGateway) answered(token uint16, from netip.Addr, body []byte, now time.Time) (reason string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	t, ok := g.pending[token]
	if !ok {
		return dropUnmatched
	}
	if t.to != from {
		return dropForeignAck
	}
	delete(g.pending, token)
	g.roundTrips[g.roundTripN%roundTripWindow] = now.Sub(t.sentAt)
	g.roundTripN++
	t.answer <- parseTxAck(body)
	return ""
}

func (g *radioGateway) sent(now time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.downlinks++
	g.lastDownlink = now
}

// wantsRegistration is true once a minute at most.
func (g *radioGateway) wantsRegistration(now time.Time) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.registeredAt.IsZero() && now.Sub(g.registeredAt) < time.Minute {
		return false
	}
	g.registeredAt = now
	return true
}

func (g *radioGateway) registrationFailed() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.registeredAt = time.Time{}
}

func (g *radioGateway) lastSeen() time.Time {
	g.mu.Lock()
	defer g.mu.Unlock()
	return latest(g.since, g.lastPush, g.lastPull)
}

func (g *radioGateway) connection() Connection {
	g.mu.Lock()
	defer g.mu.Unlock()
	trips := slices.Clone(g.roundTrips[:min(g.roundTripN, roundTripWindow)])
	slices.Sort(trips)
	return Connection{
		GatewayEUI: g.eui, ProtocolVersion: g.version, PullAddr: g.pullAddr, ConnectedAt: g.since,
		LastPush: g.lastPush, LastPull: g.lastPull, LastUplink: g.lastUplink, LastDownlink: g.lastDownlink,
		Uplinks: g.uplinks, Downlinks: g.downlinks, LastStatus: g.status, RoundTrips: trips,
	}
}

func latest(times ...time.Time) time.Time { return slices.MaxFunc(times, time.Time.Compare) }

// table holds the radio gateways that were heard of, and the rate at which each source address may bring new ones.
type table struct {
	mu       sync.RWMutex
	gateways map[messages.EUI64]*radioGateway
	sources  map[netip.Addr]*rate.Limiter
}

const (
	maxGateways = 100_000
	maxSources  = 100_000
	forgetAfter = 24 * time.Hour
)

func (t *table) get(eui messages.EUI64) *radioGateway {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.gateways[eui]
}

// add gives nil if the table is full; there is always room for a radio gateway that the registry knows.
func (t *table) add(eui messages.EUI64, known bool, perSecond float64, now time.Time) *radioGateway {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !known && len(t.gateways) >= maxGateways {
		return nil
	}
	burst := max(1, int(2*perSecond))
	g := &radioGateway{eui: eui, limit: rate.NewLimiter(rate.Limit(perSecond), burst), strangers: rate.NewLimiter(rate.Limit(perSecond), burst), since: now}
	t.gateways[eui] = g
	return g
}

// allowUnknown says whether source may bring one more radio gateway that is in no registry.
func (t *table) allowUnknown(source netip.Addr, now time.Time, perSecond rate.Limit, burst int) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	l := t.sources[source]
	if l == nil {
		if len(t.sources) >= maxSources {
			return false
		}
		l = rate.NewLimiter(perSecond, burst)
		t.sources[source] = l
	}
	return l.AllowN(now, 1)
}

// sweep forgets what was silent for long.
func (t *table) sweep(now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for eui, g := range t.gateways {
		if now.Sub(g.lastSeen()) > forgetAfter {
			delete(t.gateways, eui)
		}
	}
	for source, l := range t.sources {
		if l.TokensAt(now) >= float64(l.Burst()) {
			delete(t.sources, source)
		}
	}
}

func (t *table) connections() []Connection {
	t.mu.RLock()
	out := make([]Connection, 0, len(t.gateways))
	for _, g := range t.gateways {
		out = append(out, g.connection())
	}
	t.mu.RUnlock()
	slices.SortFunc(out, func(a, b Connection) int { return cmp.Compare(string(a.GatewayEUI[:]), string(b.GatewayEUI[:])) })
	return out
}
