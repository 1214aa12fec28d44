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
}

// Seconds is a duration that is a number of seconds in JSON.
type Seconds time.Duration

func (s Seconds) String() string { return time.Duration(s).Round(10 * time.Microsecond).String() }

// MarshalJSON gives seconds with µs.
func (s Seconds) MarshalJSON() ([]byte, error) {
	return fmt.Appendf(nil, "%.6f", time.Duration(s).Seconds()), nil
}

// Problems lists what a server that keeps its promises would not have done. It is empty after a good run.
func (r Report) Problems() (out []string) {
	add := func(n uint64, what string) {
		if n > 0 {
			out = append(out, fmt.Sprintf("%d %s", n, what))
		}
	}
	add(uint64(r.Devices-r.Active), "devices did not join")
	if r.EventsWatched {
		add(r.EventsMissing, "uplinks without an event")
		add(r.EventsDuplicate, "events more than once")
	}
	add(r.FCntDownReused, "times a FCntDown was used for two contents")
	add(r.JoinNonceReused, "times a JoinNonce was used twice")
	var refused uint64
	for _, n := range r.Refused {
		refused += n
	}
	add(refused-min(refused, r.FaultsInjected), "downlinks that the radio gateways could not send")
	for _, reason := range slices.Sorted(maps.Keys(r.Rejected)) {
		if reason != Repeated && reason != UnsentFrame && reason != FCntDownReused && reason != JoinNonceReused {
			add(r.Rejected[reason], "downlinks that no device could receive: "+string(reason))
		}
	}
	return out
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
	row("counters reused", "%d FCntDown, %d JoinNonce", r.FCntDownReused, r.JoinNonceReused)
	row("simulator late", "%s at most", r.MaxLag)
	if r.FirstFault != "" {
		row("first fault", "%s", r.FirstFault)
	}
	return t.Flush()
}
