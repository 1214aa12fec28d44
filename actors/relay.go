package actors

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"lorikeet/actors/device"
	"lorikeet/messages"
	"lorikeet/messages/wire"
)

// KindTransmit is the kind of the message by which a node has another one send a class A answer through its radio gateways.
const KindTransmit = "transmit"

// RelayConfig configures a Relay.
type RelayConfig struct {
	Node  string // this one
	Local Sender // sends through the radio gateways of this node
	// NodeOf says which node has the downlink path of a radio gateway; false if none is known.
	NodeOf func(eui messages.EUI64) (node string, ok bool)
	// Ask has another node carry out KindTransmit.
	Ask   func(ctx context.Context, node, kind string, body []byte) ([]byte, error)
	Clock func() time.Time
	Log   *slog.Logger
}

// Relay is the Sender of a cluster. An answer is planned and sent by the node that has the radio gateways, since it alone knows what these are
// doing; if it can't, the node of the next best reception is asked while there is time.
type Relay struct {
	cfg    RelayConfig
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

// NewRelay makes a Relay.
func NewRelay(cfg RelayConfig) *Relay {
	r := &Relay{cfg: cfg}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	return r
}

// Transmit starts to send an answer and returns at once.
func (r *Relay) Transmit(t *device.Transmit, report func(result messages.TxError, missed bool)) {
	parts := r.byNode(t)
	if len(parts) == 1 && parts[0].node == r.cfg.Node {
		r.cfg.Local.Transmit(t, report)
		return
	}
	r.wg.Go(func() {
		result, missed := r.carry(parts)
		if r.ctx.Err() == nil {
			report(result, missed)
		}
	})
}

// share is what one node can do for an answer.
type share struct {
	node     string
	transmit device.Transmit
}

// byNode splits an answer by the nodes that have the radio gateways, the node of the best reception first.
func (r *Relay) byNode(t *device.Transmit) []share {
	var out []share
	for _, f := range t.Candidates {
		node := f.Rx[0].Node
		if at, ok := r.cfg.NodeOf(f.Rx[0].GatewayEUI); ok {
			node = at
		}
		if node == "" {
			node = r.cfg.Node
		}
		i := slices.IndexFunc(out, func(s share) bool { return s.node == node })
		if i < 0 {
			i = len(out)
			out = append(out, share{node: node, transmit: *t})
			out[i].transmit.Candidates = nil
		}
		out[i].transmit.Candidates = append(out[i].transmit.Candidates, f)
	}
	return out
}

func (r *Relay) carry(parts []share) (messages.TxError, bool) {
	last, unanswered := messages.TxOK, false
	for _, p := range parts {
		result, missed := r.send(p)
		switch {
		case result == messages.TxOK && !missed:
			return messages.TxOK, false
		case result == messages.TxUnanswered:
			unanswered = true // perhaps on air; the same bytes once more do no harm
		case !missed:
			last = result
		}
	}
	switch {
	case unanswered:
		return messages.TxUnanswered, false
	case last != messages.TxOK:
		return last, false
	}
	return messages.TxTooLate, true
}

func (r *Relay) send(p share) (messages.TxError, bool) {
	ctx, cancel := context.WithDeadline(r.ctx, r.cfg.Clock().Add(r.timeLeft(&p.transmit)))
	defer cancel()
	if p.node == r.cfg.Node {
		return transmitAndWait(ctx, r.cfg.Local, &p.transmit)
	}
	body, err := proto.Marshal(wireTransmit(&p.transmit))
	if err == nil {
		body, err = r.cfg.Ask(ctx, p.node, KindTransmit, body)
	}
	var answer wire.Transmitted
	if err == nil {
		err = proto.Unmarshal(body, &answer)
	}
	if err != nil {
		r.cfg.Log.Info("another node did not send a downlink", "node", p.node, "err", err)
		if ctx.Err() != nil {
			return messages.TxUnanswered, false
		}
		return messages.TxNoPath, false
	}
	return messages.TxError(answer.Result), answer.Missed
}

// timeLeft is how long an answer can be waited for: till the last window begins, and a moment for the report.
func (r *Relay) timeLeft(t *device.Transmit) time.Duration {
	last := time.Duration(0)
	for _, w := range t.Windows {
		last = max(last, w.Delay)
	}
	heard := r.cfg.Clock()
	for i := range t.Candidates {
		if at := t.Candidates[i].ReceivedAt; at.Before(heard) {
			heard = at
		}
	}
	// Nodes' clocks differ: never less than a moment, never more than the windows can last.
	left := heard.Add(last + time.Second).Sub(r.cfg.Clock())
	return min(max(left, 500*time.Millisecond), last+time.Second)
}

func transmitAndWait(ctx context.Context, s Sender, t *device.Transmit) (messages.TxError, bool) {
	type outcome struct {
		result messages.TxError
		missed bool
	}
	done := make(chan outcome, 1)
	s.Transmit(t, func(result messages.TxError, missed bool) { done <- outcome{result, missed} })
	select {
	case o := <-done:
		return o.result, o.missed
	case <-ctx.Done():
		return messages.TxUnanswered, false
	}
}

// HandleTransmit carries out a KindTransmit of another node.
func (r *Relay) HandleTransmit(ctx context.Context, body []byte) ([]byte, error) {
	m, err := parse(body, &wire.Transmit{})
	if err != nil {
		return nil, err
	}
	t := transmitOf(m)
	if len(t.Candidates) == 0 || len(t.Windows) == 0 {
		return nil, messages.Invalid("malformed_message", "a downlink without radio gateway or window came from another node")
	}
	for i := range t.Candidates {
		if len(t.Candidates[i].Rx) == 0 {
			return nil, messages.Invalid("malformed_message", "a downlink whose uplink nobody heard came from another node")
		}
	}
	result, missed := transmitAndWait(ctx, r.cfg.Local, t)
	return proto.Marshal(&wire.Transmitted{Result: string(result), Missed: missed})
}

// Close gives up what is being sent and waits until it has ended.
func (r *Relay) Close() {
	r.cancel()
	r.wg.Wait()
}
