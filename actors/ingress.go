package actors

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"lorikeet/actors/device"
	"lorikeet/messages"
	"lorikeet/messages/frame"
)

// Finder is the directory as the ingress asks it: whose uplink is it, its MIC checked. The outcome names why there is no device.
type Finder interface {
	Lookup(data frame.Data, phy []byte) (id messages.DeviceID, outcome string, ok bool)
}

// Ingress takes frames from radio gateways, finds their devices and hands them over. It never waits for processing: past the limit of frames
// in flight the newest are dropped and counted.
type Ingress struct {
	cfg      IngressConfig
	inFlight atomic.Int64
	waiting  atomic.Int64 // frames whose device is looked up once more
	joins    joinLimiter
}

// IngressConfig configures an Ingress.
type IngressConfig struct {
	Directory   Finder
	Registry    Registry
	Router      Router
	Metrics     *Metrics
	MaxInFlight int64 // frames
	Clock       func() time.Time
	// LookAgain is how long after a miss the directory and the registry are asked once more, where they follow other nodes; 0: never.
	LookAgain time.Duration
	Node      string // name of this node of a cluster
	Log       *slog.Logger
}

// NewIngress makes an Ingress.
func NewIngress(cfg IngressConfig) *Ingress {
	return &Ingress{cfg: cfg, joins: joinLimiter{perGateway: map[messages.EUI64]*rate.Limiter{}}}
}

// HandleFrame takes one reception.
func (in *Ingress) HandleFrame(f messages.Frame) {
	if len(f.Rx) == 0 {
		return
	}
	if in.cfg.Node != "" {
		for i := range f.Rx {
			f.Rx[i].Node = in.cfg.Node
		}
	}
	t, err := frame.TypeOf(f.PHYPayload)
	switch {
	case err != nil:
		in.cfg.Metrics.uplink("malformed")
	case t == frame.JoinRequest:
		in.join(f, in.cfg.LookAgain > 0)
	case t == frame.UnconfirmedDataUp || t == frame.ConfirmedDataUp:
		in.data(f, in.cfg.LookAgain > 0)
	default:
		in.cfg.Metrics.uplink("unsupported_type")
	}
}

// maxWaiting bounds the frames that wait for a second look: most of what is not found is of other networks.
const maxWaiting = 1000

// lookAgain has find called once more in a moment; false if too many frames wait already.
func (in *Ingress) lookAgain(find func()) bool {
	if in.waiting.Add(1) > maxWaiting {
		in.waiting.Add(-1)
		return false
	}
	time.AfterFunc(in.cfg.LookAgain, func() {
		defer in.waiting.Add(-1)
		find()
	})
	return true
}

func (in *Ingress) data(f messages.Frame, again bool) {
	d, err := frame.ParseData(f.PHYPayload)
	if err != nil {
		in.cfg.Metrics.uplink("malformed")
		return
	}
	id, outcome, ok := in.cfg.Directory.Lookup(d, f.PHYPayload)
	if !ok {
		if !again || !in.lookAgain(func() { in.data(f, false) }) {
			in.cfg.Metrics.uplink(outcome)
			in.tellForeign("uplink is dropped", &f, slog.String("reason", outcome), slog.Any("dev_addr", d.DevAddr))
		}
		return
	}
	in.deliver(id, &DeliverFrame{Frame: f})
}

func (in *Ingress) join(f messages.Frame, again bool) {
	j, err := frame.ParseJoin(f.PHYPayload)
	if err != nil {
		in.cfg.Metrics.join("malformed")
		return
	}
	id, ok := in.cfg.Registry.DeviceByEUI(j.JoinEUI, j.DevEUI)
	if !ok {
		if !again || !in.lookAgain(func() { in.join(f, false) }) {
			in.cfg.Metrics.join("unknown_device")
			in.tellForeign("join-request of no device here", &f, slog.Any("join_eui", j.JoinEUI), slog.Any("dev_eui", j.DevEUI))
		}
		return
	}
	if !in.joins.allow(f.Rx[0].GatewayEUI, in.cfg.Clock()) {
		in.cfg.Metrics.join("rate_limited")
		return
	}
	in.deliver(id, &DeliverFrame{Frame: f, Join: true})
}

// tellForeign lets whoever asks for it see what is dropped; most of it is of other networks.
func (in *Ingress) tellForeign(message string, f *messages.Frame, attributes ...slog.Attr) {
	if ctx := context.Background(); in.cfg.Log.Enabled(ctx, slog.LevelDebug) {
		in.cfg.Log.LogAttrs(ctx, slog.LevelDebug, message, append(attributes, slog.String("gateway_id", f.Rx[0].GatewayID))...)
	}
}

func (in *Ingress) deliver(id messages.DeviceID, m *DeliverFrame) {
	if in.inFlight.Add(1) > in.cfg.MaxInFlight {
		in.inFlight.Add(-1)
		in.cfg.Metrics.uplink("overload")
		return
	}
	m.OnSettled(func() { in.inFlight.Add(-1) })
	in.cfg.Router.Tell(id, m)
}

// InFlight is the number of frames handed over and not settled.
func (in *Ingress) InFlight() int64 { return in.inFlight.Load() }

// joinLimiter bounds the join-requests that one radio gateway can make us work on: each costs a MIC and perhaps a commit.
type joinLimiter struct {
	mu         sync.Mutex
	perGateway map[messages.EUI64]*rate.Limiter
}

const (
	joinsPerSecond = 200
	joinBurst      = 2000
)

func (l *joinLimiter) allow(gateway messages.EUI64, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	lim := l.perGateway[gateway]
	if lim == nil {
		if len(l.perGateway) > 10000 {
			clear(l.perGateway) // forged EUIs must not fill the memory
		}
		lim = rate.NewLimiter(joinsPerSecond, joinBurst)
		l.perGateway[gateway] = lim
	}
	return lim.AllowN(now, 1)
}

// LoadIndex fills the directory from the store, without waking actors.
func LoadIndex(ctx context.Context, cfg *DeviceConfig) error {
	return cfg.Store.ScanSessions(ctx, func(id messages.DeviceID, b []byte, _ messages.Revision) error {
		entries, err := SessionEntries(b)
		if err == nil && len(entries) > 0 {
			cfg.Index.Set(id, entries...)
		}
		return err
	})
}

// SessionEntries reads from a session record what the directory must know of the device; nothing if it has no session.
func SessionEntries(record []byte) ([]messages.SessionEntry, error) {
	s, err := device.Unmarshal(record)
	if err != nil {
		return nil, err
	}
	return indexEntries(s), nil
}
