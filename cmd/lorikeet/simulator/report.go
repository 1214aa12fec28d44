package simulator

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"text/tabwriter"
	"time"

	"lorikeet/messages"
)

// Report is what a run saw. Durations are in ns in JSON.
type Report struct {
	Devices      int     `json:"devices"`
	Active       int     `json:"active"` // devices with a session
	JoinRequests uint64  `json:"join_requests"`
	JoinAccepts  uint64  `json:"join_accepts"`
	Uplinks      uint64  `json:"uplinks"` // repetitions and copies left out
	Confirmed    uint64  `json:"confirmed"`
	Acks         uint64  `json:"acks"` // confirmed uplinks that were acknowledged
	Repetitions  uint64  `json:"repetitions"`
	Frames       uint64  `json:"frames"` // as sent by the radio gateways, all kinds and copies
	FramesAcked  uint64  `json:"frames_acked"`
	Elapsed      Seconds `json:"elapsed_seconds"` // from the first uplink to the last
	UplinkRate   float64 `json:"uplink_rate"`     // a second
	MaxLag       Seconds `json:"max_lag_seconds"` // by how much the simulator itself was late

	EventsWatched   bool              `json:"events_watched"`
	Events          uint64            `json:"events"` // uplink events that match an uplink
	EventsMissing   uint64            `json:"events_missing"`
	EventsDuplicate uint64            `json:"events_duplicate"`
	EventsUnknown   uint64            `json:"events_unknown"` // match no uplink of this run
	JoinEvents      uint64            `json:"join_events"`
	DownEvents      map[string]uint64 `json:"down_events,omitempty"`
	LatencyP50      Seconds           `json:"latency_p50_seconds"` // from PUSH_DATA to the event
	LatencyP99      Seconds           `json:"latency_p99_seconds"`
	LatencyMax      Seconds           `json:"latency_max_seconds"`

	Downlinks       uint64                      `json:"downlinks"` // data frames that devices accepted
	Rejected        map[Reason]uint64           `json:"rejected,omitempty"`
	FCntDownReused  uint64                      `json:"f_cnt_down_reused"`
	JoinNonceReused uint64                      `json:"join_nonce_reused"`
	Refused         map[messages.TxError]uint64 `json:"refused,omitempty"` // by the radio gateways, by TX_ACK error
	FaultsInjected  uint64                      `json:"faults_injected"`   // of these, on purpose
	Pushed          uint64                      `json:"pushed"`            // downlinks pushed over MQTT
	PushedReceived  uint64                      `json:"pushed_received"`   // of these, received by their device
	PushFailed      uint64                      `json:"push_failed"`
	FirstFault      string                      `json:"first_fault,omitempty"` // the first downlink that must not have been

	GatewayMoves    uint64   `json:"gateway_moves"`     // of radio gateways to another server
	FramesAbandoned uint64   `json:"frames_abandoned"`  // no server acknowledged them in time
	Verdict         *Verdict `json:"verdict,omitempty"` // if there was a webhook receiver
}

// Verdict is what the judge found of uplinks and their events. An uplink counts as accepted when an event of it came anywhere, or the device got its ACK.
type Verdict struct {
	Accepted       uint64 `json:"accepted"`
	NotAccepted    uint64 `json:"not_accepted"`    // sent, and nobody knows of an acceptance
	Lost           uint64 `json:"lost"`            // accepted, but no event came to the webhook
	PublishedTwice uint64 `json:"published_twice"` // events that came under two event ids or with two bodies, and ids of two events
	OutOfOrder     uint64 `json:"out_of_order"`    // events at the webhook after one of a later uplink of the device
	PushesLost     uint64 `json:"pushes_lost"`     // downlinks that the broker acknowledged, but no downlink_queued came to the webhook
	NeverSent      uint64 `json:"never_sent"`      // events of uplinks that no device sent
	WithoutID      uint64 `json:"without_id"`      // webhook requests without an event id
	Deliveries     uint64 `json:"deliveries"`      // webhook requests
	Repeated       uint64 `json:"repeated"`        // of these, what had come before, as it may

	// Outage is by how much each device's longest time between two acceptances exceeds its interval; Interrupted is that of devices where it is
	// more than half a second.
	Outage      Spread `json:"outage"`
	Interrupted Spread `json:"interrupted"`

	Marks    []MarkReport `json:"marks,omitempty"`
	Examples []string     `json:"examples,omitempty"` // the first faults, in words
}

// Seconds is a duration that is a number of seconds in JSON.
type Seconds time.Duration

func (s Seconds) String() string { return time.Duration(s).Round(10 * time.Microsecond).String() }

// MarshalJSON gives seconds with µs.
func (s Seconds) MarshalJSON() ([]byte, error) {
	return fmt.Appendf(nil, "%.6f", time.Duration(s).Seconds()), nil
}

// problems collects counts that should be 0.
type problems []string

func (p *problems) add(n uint64, what string) {
	if n > 0 {
		*p = append(*p, fmt.Sprintf("%d %s", n, what))
	}
}

// Violations lists what must not happen whatever befalls the servers: what was lost, repeated under another name, or used twice.
func (r Report) Violations() []string {
	var p problems
	p.add(r.FCntDownReused, "times a FCntDown was used for two contents")
	p.add(r.Rejected[FCntTooLow], "times a FCntDown went back")
	p.add(r.JoinNonceReused, "times a JoinNonce was used twice")
	if v := r.Verdict; v != nil {
		p.add(v.Lost, "accepted uplinks lost")
		p.add(v.PushesLost, "acknowledged downlinks lost")
		p.add(v.PublishedTwice, "events published twice")
		p.add(v.OutOfOrder, "events out of order")
		p.add(v.NeverSent, "events of uplinks that were never sent")
		p.add(v.WithoutID, "events without an id")
	}
	return p
}

// Problems lists what a server that keeps its promises would not have done. It is empty after a good run. If something was done to the servers
// meanwhile (see Mark), only Violations count, and devices that could not join: service may have been interrupted.
func (r Report) Problems() []string {
	var p problems
	p.add(uint64(r.Devices-r.Active), "devices did not join")
	v := r.Verdict
	if v != nil && len(v.Marks) > 0 {
		return append(p, r.Violations()...)
	}
	switch {
	case v != nil: // MQTT may have moved from server to server
		p.add(v.NotAccepted, "uplinks not accepted")
	case r.EventsWatched:
		p.add(r.EventsMissing, "uplinks without an event")
		p.add(r.EventsDuplicate, "events more than once")
	}
	p = append(p, r.Violations()...)
	var refused uint64
	for _, n := range r.Refused {
		refused += n
	}
	p.add(refused-min(refused, r.FaultsInjected), "downlinks that the radio gateways could not send")
	for _, reason := range slices.Sorted(maps.Keys(r.Rejected)) {
		if !slices.Contains([]Reason{Repeated, UnsentFrame, FCntDownReused, JoinNonceReused, FCntTooLow}, reason) {
			p.add(r.Rejected[reason], "downlinks that no device could receive: "+string(reason))
		}
	}
	return p
}

// WriteTable writes the report for people.
func (r Report) WriteTable(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(name, format string, args ...any) {
		fmt.Fprintf(t, "%s\t"+format+"\n", append([]any{name}, args...)...)
	}
	row("devices", "%d of %d active, %d join-requests, %d join-accepts", r.Active, r.Devices, r.JoinRequests, r.JoinAccepts)
	row("uplinks", "%d in %s, %.1f a second, %d repetitions", r.Uplinks, r.Elapsed, r.UplinkRate, r.Repetitions)
	row("frames", "%d sent, %d acknowledged by PUSH_ACK", r.Frames, r.FramesAcked)
	if r.Confirmed > 0 {
		row("confirmed", "%d, %d acknowledged", r.Confirmed, r.Acks)
	}
	if r.EventsWatched {
		row("events", "%d, missing %d, duplicate %d, unknown %d, joins %d", r.Events, r.EventsMissing, r.EventsDuplicate, r.EventsUnknown, r.JoinEvents)
		row("latency", "p50 %s, p99 %s, max %s", r.LatencyP50, r.LatencyP99, r.LatencyMax)
	}
	for _, name := range slices.Sorted(maps.Keys(r.DownEvents)) {
		row("downlink "+name, "%d", r.DownEvents[name])
	}
	row("downlinks", "%d received; pushed %d, of these received %d", r.Downlinks, r.Pushed, r.PushedReceived)
	for _, reason := range slices.Sorted(maps.Keys(r.Rejected)) {
		row("  rejected", "%d %s", r.Rejected[reason], reason)
	}
	for _, name := range slices.Sorted(maps.Keys(r.Refused)) {
		row("  refused", "%d %s", r.Refused[name], name)
	}
	if r.FaultsInjected > 0 {
		row("  refused on purpose", "%d", r.FaultsInjected)
	}
	if r.GatewayMoves > 0 || r.FramesAbandoned > 0 {
		row("radio gateways", "moved %d times to another server, abandoned %d frames", r.GatewayMoves, r.FramesAbandoned)
	}
	if v := r.Verdict; v != nil {
		v.rows(row)
	}
	row("counters reused", "%d FCntDown, %d JoinNonce", r.FCntDownReused, r.JoinNonceReused)
	row("simulator late", "%s at most", r.MaxLag)
	if r.FirstFault != "" {
		row("first fault", "%s", r.FirstFault)
	}
	return t.Flush()
}

func (v *Verdict) rows(row func(name, format string, args ...any)) {
	row("accepted", "%d uplinks (of %d others nobody knows), lost %d, downlinks lost %d, published twice %d, out of order %d, never sent %d", v.Accepted, v.NotAccepted, v.Lost, v.PushesLost, v.PublishedTwice, v.OutOfOrder, v.NeverSent)
	row("webhook", "%d deliveries, %d of them repeated, %d without an id", v.Deliveries, v.Repeated, v.WithoutID)
	row("outage of a device", "%s", v.Outage)
	for _, m := range v.Marks {
		row("  around "+m.Name, "%s; %d devices unserved", m.Outage, m.Unserved)
		row("  first accepted", "%s", m.First)
		if m.Interrupted.Devices > 0 {
			row("  those interrupted", "%s", m.Interrupted)
		}
	}
	for _, e := range v.Examples {
		row("  fault", "%s", e)
	}
}

func (s Spread) String() string {
	return fmt.Sprintf("min %s, median %s, p99 %s, max %s of %d devices", s.Min, s.Median, s.P99, s.Max, s.Devices)
}
