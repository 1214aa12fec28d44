package simulator

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"lorikeet/messages"
)

// player is one device of a run.
type player struct {
	*Device
	id     Identity
	joined atomic.Bool
}

// check is a moment to look whether an uplink needs a repetition.
type check struct {
	at     time.Time
	player *player
	fCnt   uint32
}

// run is one run of the load generator.
type run struct {
	cfg      Config
	out      io.Writer
	air      *Air
	gateways []*Gateway
	players  []*player
	byDevice map[*Device]*player
	events   *tracker
	payload  payloadFunc
	size     int
	mqtt     mqtt.Client
	pushes   chan push
	checks   []check // in order of time
	start    time.Time
	ended    time.Duration // since start: when the last uplink was sent
	judge    *judge        // nil without a webhook receiver
	hook     *webhookReceiver

	mu       sync.Mutex // of what follows
	rnd      *rand.Rand
	report   Report
	received map[uint64]bool // pushed downlinks, by number; true: received
}

type push struct {
	device string
	number uint64
}

// Run provisions the devices, lets them join and send, and compares what the server made of it with what was sent. Progress is written to out. It stops early when ctx ends, and then gives what it saw and ctx's error. An error says that
// the run could not be done; a server that loses or repeats things is not an error but in the Report (see Report.Problems).
func Run(ctx context.Context, cfg Config, out io.Writer) (Report, error) {
	if err := cfg.Validate(); err != nil {
		return Report{}, err
	}
	states, err := readStates(cfg.StateFile)
	if err != nil {
		return Report{}, err
	}
	lines := &lineWriter{w: out}
	defer lines.close()
	start := time.Now()
	r := &run{cfg: cfg, out: lines, start: start, byDevice: map[*Device]*player{}, events: newTracker(start), pushes: make(chan push, 1024), received: map[uint64]bool{},
		rnd:    rand.New(rand.NewPCG(cfg.Seed, 1)),
		report: Report{Devices: cfg.Devices, EventsWatched: cfg.MQTT != "", Rejected: map[Reason]uint64{}, Refused: map[messages.TxError]uint64{}}}
	if r.payload, r.size, err = parsePayload(cfg.Payload); err != nil {
		return Report{}, err
	}
	r.air = NewAir(AirConfig{RealTime: cfg.RealTime, Fault: r.fault, Accepted: r.accepted, Rejected: r.rejected})
	defer r.air.Close()
	ids := make([]Identity, cfg.Devices)
	for i := range ids {
		ids[i] = MakeIdentity(cfg.Seed, i, cfg.Activation)
	}
	if cfg.WebhookListen != "" {
		stop, err := r.openJudge(ctx)
		if err != nil {
			return r.report, err
		}
		defer stop()
	}
	apiKey, cleanUp, err := r.provision(ctx, ids)
	defer cleanUp()
	if err != nil {
		return r.report, err
	}
	if cfg.MQTT != "" {
		if r.mqtt, err = watch(ctx, cfg, apiKey, r.live); err != nil {
			return r.report, err
		}
		defer r.mqtt.Disconnect(250)
		stop, err := r.watchEach(ctx, apiKey)
		defer stop()
		if err != nil {
			return r.report, err
		}
	}
	if err := r.open(ctx, ids, states); err != nil {
		return r.report, err
	}
	err = r.play(ctx, states)
	return r.finish(), errors.Join(err, r.save(states))
}

// play lets the devices join and send, and waits for the last events.
func (r *run) play(ctx context.Context, states map[string]State) error {
	if r.cfg.Activation == OTAA {
		if err := r.join(ctx); err != nil {
			return err
		}
		if err := r.save(states); err != nil { // DevNonces that are used must not be lost
			return err
		}
	}
	var active []*player
	for _, p := range r.players {
		if p.joined.Load() {
			active = append(active, p)
		}
	}
	r.mu.Lock()
	r.report.Active = len(active)
	r.mu.Unlock()
	if len(active) == 0 {
		return errors.New("no device could join: look for the cause in the server's log; if the devices joined in an earlier run, use its state file or another seed")
	}
	fmt.Fprintf(r.out, "%d of %d devices active\n", len(active), len(r.players))
	pushing, stopPushing := context.WithCancel(ctx)
	defer stopPushing()
	pushed := make(chan struct{})
	go func() {
		defer close(pushed)
		r.push(pushing)
	}()
	r.pace(ctx, active)
	close(r.pushes)
	drain, cancel := context.WithTimeout(ctx, r.cfg.Drain)
	defer cancel()
	r.drain(drain)
	select {
	case <-pushed:
	case <-drain.Done():
		stopPushing()
		<-pushed
	}
	return ctx.Err()
}

// join lets all devices join at JoinRate; who gets no answer tries again.
func (r *run) join(ctx context.Context) error {
	type attempt struct {
		*player
		n     int
		until time.Time
	}
	var waiting, pending []attempt
	for _, p := range r.players {
		waiting = append(waiting, attempt{player: p})
	}
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for start, sent := time.Now(), 0; len(waiting)+len(pending) > 0; {
		now := time.Now()
		for len(waiting) > 0 && float64(sent) <= r.cfg.JoinRate*now.Sub(start).Seconds() {
			a := waiting[0]
			waiting = waiting[1:]
			if _, err := a.StartJoin(); err != nil {
				return fmt.Errorf("device %s: %w", a.id.DeviceID, err)
			}
			a.n++
			a.until = now.Add(r.cfg.JoinTimeout)
			pending = append(pending, a)
			sent++
			r.count(&r.report.JoinRequests)
		}
		still := pending[:0]
		for _, a := range pending {
			switch {
			case a.joined.Load():
			case now.Before(a.until):
				still = append(still, a)
			case a.n < r.cfg.JoinAttempts:
				waiting = append(waiting, a)
			}
		}
		pending = still
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// pace sends uplinks in an open loop: when the server or the simulator is late, those that are due follow at once.
func (r *run) pace(ctx context.Context, active []*player) {
	start := time.Now()
	var lag time.Duration
	n := 0
	for ctx.Err() == nil && !r.stopped() && (r.cfg.Count == 0 || n < r.cfg.Count) {
		now := time.Since(start)
		if r.cfg.Duration > 0 && now >= r.cfg.Duration {
			break
		}
		due := int(r.cfg.Rate*now.Seconds()) + 1
		for ; n < due && (r.cfg.Count == 0 || n < r.cfg.Count); n++ {
			lag = max(lag, time.Since(start)-time.Duration(float64(n)/r.cfg.Rate*float64(time.Second)))
			r.uplink(active[n%len(active)], uint64(n))
		}
		if r.cfg.Batch > 1 {
			for _, g := range r.gateways {
				g.flush()
			}
		}
		r.repeat()
		next := time.Duration(float64(n)/r.cfg.Rate*float64(time.Second)) - time.Since(start)
		sleep(ctx, min(max(next, time.Millisecond), 20*time.Millisecond))
	}
	elapsed := time.Since(start)
	r.ended = time.Since(r.start)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.report.Elapsed, r.report.MaxLag = Seconds(elapsed), Seconds(lag)
	r.report.UplinkRate = float64(r.report.Uplinks) / elapsed.Seconds()
}

func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// uplink sends the n-th uplink of the run, and orders a downlink for one in DownlinkEvery.
func (r *run) uplink(p *player, n uint64) {
	var buf [242]byte
	payload := buf[:r.size]
	r.payload(payload, n)
	u := Uplink{FPort: r.cfg.FPort, Payload: payload, Confirmed: share(n, r.cfg.Confirmed)}
	var repeats int
	var delay time.Duration
	t, err := p.send(r.cfg.Batch > 1, func(m *MAC) (Transmission, error) {
		t, err := m.Uplink(u)
		if err == nil {
			r.leave(p, m.session.DevAddr, t) // before the frame leaves: the event may be fast
		}
		repeats, delay = m.repeatsLeft, m.rxDelay1
		return t, err
	})
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		r.fail(fmt.Sprintf("device %s: %v", p.id.DeviceID, err))
		return
	}
	r.report.Uplinks++
	if u.Confirmed {
		r.report.Confirmed++
	}
	if repeats > 0 {
		r.checks = append(r.checks, check{at: time.Now().Add(delay + 3*time.Second), player: p, fCnt: t.FCnt}) // RX2, then ACK_TIMEOUT of 2 s
	}
	if r.cfg.DownlinkEvery > 0 && n%uint64(r.cfg.DownlinkEvery) == 0 {
		select {
		case r.pushes <- push{p.id.DeviceID, n}:
		default:
			r.report.PushFailed++
		}
	}
}

// share says whether the n-th of a sequence belongs to the given share, spread evenly.
func share(n uint64, part float64) bool {
	return uint64(float64(n+1)*part) > uint64(float64(n)*part)
}

// repeat sends the repetitions that are due. A device that has sent a newer uplink meanwhile has given up the old one.
func (r *run) repeat() {
	now := time.Now()
	for len(r.checks) > 0 && now.After(r.checks[0].at) {
		c := r.checks[0]
		r.checks = r.checks[1:]
		_, err := c.player.send(false, func(m *MAC) (Transmission, error) {
			if m.last.FCnt != c.fCnt {
				return Transmission{}, ErrNothingToRepeat
			}
			t, err := repeat(m)
			if err == nil && r.judge != nil {
				r.judge.sent(c.player.id.DeviceID, m.session.DevAddr, t)
			}
			return t, err
		})
		if err != nil {
			continue
		}
		r.count(&r.report.Repetitions)
		c.at = now.Add(c.player.rxDelay() + 3*time.Second)
		r.checks = append(r.checks, c)
	}
}

func (d *Device) rxDelay() time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.mac.RXDelay()
}

// drain waits for the events that are missing, the answers and repetitions of confirmed uplinks, and downlinks that radio gateways have taken.
func (r *run) drain(ctx context.Context) {
	for ctx.Err() == nil {
		r.repeat()
		if r.delivered() && r.settled() && !r.repeating() {
			return
		}
		sleep(ctx, 20*time.Millisecond)
	}
}

// repeating says whether a repetition may be due later, and forgets the checks of uplinks that are answered.
func (r *run) repeating() bool {
	kept := r.checks[:0]
	for _, c := range r.checks {
		c.player.Device.mu.Lock()
		if m := c.player.mac; m.last.FCnt == c.fCnt && m.repeatsLeft > 0 {
			kept = append(kept, c)
		}
		c.player.Device.mu.Unlock()
	}
	r.checks = kept
	return len(kept) > 0
}

// settled says whether the radio gateways have all PUSH_ACKs and have sent what they took.
func (r *run) settled() bool {
	if r.air.waiting.Load() > 0 {
		return false
	}
	for _, g := range r.gateways {
		if s := g.Stats(); s.Acknowledged+s.Abandoned < s.Sent {
			return false
		}
	}
	return true
}

// push publishes downlinks.
func (r *run) push(ctx context.Context) {
	for p := range r.pushes {
		if ctx.Err() != nil {
			r.count(&r.report.PushFailed)
			continue
		}
		var payload [8]byte
		binary.BigEndian.PutUint64(payload[:], p.number)
		r.mu.Lock()
		r.received[p.number] = false
		r.mu.Unlock()
		topic := "v3/" + r.cfg.ApplicationID + "/devices/" + p.device + "/down/push"
		body := fmt.Appendf(nil, `{"downlinks":[{"f_port":%d,"frm_payload":%q,"confirmed":%t,"correlation_ids":["simulator:%d"]}]}`,
			r.cfg.FPort, base64.StdEncoding.EncodeToString(payload[:]), r.cfg.ConfirmedDownlink, p.number)
		token := r.mqtt.Publish(topic, r.cfg.QoS, false, body)
		select {
		case <-token.Done():
		case <-ctx.Done():
		}
		if token.Error() == nil && ctx.Err() == nil {
			r.count(&r.report.Pushed)
			if r.judge != nil {
				r.judge.pushed(p.number)
			}
		} else {
			r.count(&r.report.PushFailed)
		}
	}
}

func (r *run) count(n *uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	*n++
}

func (r *run) fault(_ *Gateway, _ TxPacket, window int) messages.TxError {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.cfg.FaultShare == 0 || r.cfg.FaultRX1 && window != 1 || r.rnd.Float64() >= r.cfg.FaultShare {
		return messages.TxOK
	}
	r.report.FaultsInjected++
	return r.cfg.Fault
}

func (r *run) accepted(d *Device, down Downlink) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if down.Join {
		r.report.JoinAccepts++
		r.byDevice[d].joined.Store(true)
		return
	}
	r.report.Downlinks++
	if down.Ack {
		r.report.Acks++
		if r.judge != nil {
			r.judge.acked(r.byDevice[d].id.DeviceID, down.DevAddr, down.Sequence, time.Since(r.start))
		}
	}
	if down.FPort == r.cfg.FPort && len(down.Payload) == 8 {
		n := binary.BigEndian.Uint64(down.Payload)
		if had, ok := r.received[n]; ok && !had {
			r.received[n] = true
			r.report.PushedReceived++
		}
	}
}

func (r *run) rejected(d *Device, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	reason := ReasonOf(err)
	r.report.Rejected[reason]++
	switch reason {
	case Repeated, UnsentFrame:
		return
	case FCntDownReused:
		r.report.FCntDownReused++
	case JoinNonceReused:
		r.report.JoinNonceReused++
	}
	name := "no device"
	if p := r.byDevice[d]; p != nil {
		name = p.id.DeviceID
	}
	r.fail(name + ": " + err.Error())
}

// fail keeps the first fault. The caller holds r.mu.
func (r *run) fail(fault string) {
	if r.report.FirstFault == "" {
		r.report.FirstFault = fault
	}
}

// save writes the state file; devices of other seeds in it stay.
func (r *run) save(states map[string]State) error {
	for _, p := range r.players {
		states[p.id.DeviceID] = p.State()
	}
	return writeStates(r.cfg.StateFile, states)
}

// finish completes the report.
func (r *run) finish() Report {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := r.report
	out.Rejected, out.Refused = maps.Clone(out.Rejected), maps.Clone(out.Refused) // downlinks may still come
	for _, g := range r.gateways {
		s := g.Stats()
		out.Frames += s.Sent
		out.FramesAcked += s.Acknowledged
		out.FramesAbandoned += s.Abandoned
		out.GatewayMoves += s.Moves
		for e, n := range s.Refused {
			out.Refused[e] += n
		}
	}
	t := r.events
	t.mu.Lock()
	defer t.mu.Unlock()
	out.Events, out.EventsDuplicate, out.EventsUnknown, out.JoinEvents = t.seen, t.duplicate, t.unknown, t.joins
	if out.EventsWatched {
		out.EventsMissing = t.sent - t.seen
		out.LatencyP50, out.LatencyP99, out.LatencyMax = Seconds(t.latency.quantile(0.5)), Seconds(t.latency.quantile(0.99)), Seconds(t.latency.max)
		out.DownEvents = maps.Clone(t.down)
	}
	if r.judge != nil {
		out.Verdict = r.judge.verdict(time.Duration(float64(out.Active)/r.cfg.Rate*float64(time.Second)), r.ended)
	}
	return out
}
