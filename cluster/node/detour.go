package node

import (
	"fmt"
	"sync"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/nats-io/nats.go"
	"google.golang.org/protobuf/proto"

	"lorikeet/messages/wire"
)

// Sealer seals what goes through NATS: commands may hold keys. All nodes have the same one.
type Sealer interface {
	Seal(dst, record, plain []byte) ([]byte, error)
	Open(record, sealed []byte) ([]byte, error)
}

const (
	detourRecord = "detour" // names the sealed form
	probePause   = time.Second
)

// kindPing asks a node to answer.
const kindPing = "_ping"

// detours are the nodes that did not answer directly. Messages for them go through NATS, which both reach as long as they are members, until a probe
// shows that they answer directly again.
type detours struct {
	mu    sync.Mutex
	nodes map[string]time.Duration // when each is probed next, by ID of the incarnation
}

// on says whether messages to a node go through NATS.
func (d *detours) on(id string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	_, on := d.nodes[id]
	return on
}

// begin says whether the detour is new.
func (d *detours) begin(id string, now time.Duration) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, on := d.nodes[id]; on {
		return false
	}
	if d.nodes == nil {
		d.nodes = map[string]time.Duration{}
	}
	d.nodes[id] = now
	return true
}

// end says whether there was a detour.
func (d *detours) end(id string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	_, on := d.nodes[id]
	delete(d.nodes, id)
	return on
}

// due gives the nodes that are to be probed now.
func (d *detours) due(now time.Duration) (out []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for id, at := range d.nodes {
		if now >= at {
			d.nodes[id] = now + probePause
			out = append(out, id)
		}
	}
	return out
}

func (d *detours) len() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.nodes)
}

// unanswered notes that a node has not answered in time. The frames that went to it directly go the other way, in their order.
func (n *Node) unanswered(p *peer) {
	if n.cfg.Sealer == nil || !p.Detour || n.table.Load().byID[p.ID] == nil || !n.detours.begin(p.ID, n.now()) {
		return
	}
	n.log.Info("node does not answer; messages for it go through NATS", "node", p.Name, "address", p.Address)
	n.frames.recall(p.ID, n.now())
}

// probe asks the nodes on a detour directly.
func (n *Node) probe() {
	t := n.table.Load()
	for _, id := range n.detours.due(n.now()) {
		p := t.byID[id]
		if p == nil {
			n.detours.end(id)
			continue
		}
		n.wg.Go(func() {
			k := n.calls.begin(p.ID)
			defer n.calls.end(k)
			n.direct(p, doormanName, &wire.NodeMessage{Id: k.id, Kind: kindPing, From: n.cfg.Name})
			timer := time.NewTimer(probePause)
			defer timer.Stop()
			select {
			case _, ok := <-k.done:
				if ok && n.detours.end(p.ID) {
					n.log.Info("node answers directly again", "node", p.Name, "address", p.Address)
				}
			case <-timer.C:
			case <-n.ctx.Done():
			}
		})
	}
}

// post sends a message to an actor of another node.
func (n *Node) post(p *peer, target string, m proto.Message) {
	n.postBy(n.detours.on(p.ID), p, target, m)
}

// postBy sends a message through NATS if that is wanted, and says whether it went that way.
func (n *Node) postBy(around bool, p *peer, target string, m proto.Message) bool {
	if around {
		err := n.sendAround(detourOf(n.cfg.Namespace, p.ID), m)
		if err == nil {
			n.metrics.detoured.Inc()
			return true
		}
		n.log.Debug("message can't go through NATS", "node", p.Name, "err", err) // as one that is too large
	}
	n.direct(p, target, m)
	return false
}

func (n *Node) direct(p *peer, target string, m proto.Message) {
	n.system.Root.RequestWithCustomSender(actor.NewPID(p.Address, target), m, n.answers)
}

// detourOf is the subject on which a node takes messages.
func detourOf(namespace, id string) string { return namespace + ".n." + id }

// What the first byte of a message on a detour says of the rest.
const (
	detourDevice = 'd'
	detourNode   = 'n'
	detourAnswer = 'a'
)

func (n *Node) sendAround(subject string, m proto.Message) error {
	what := byte(detourAnswer)
	switch m.(type) {
	case *wire.DeviceMessage:
		what = detourDevice
	case *wire.NodeMessage:
		what = detourNode
	}
	plain, err := proto.MarshalOptions{}.MarshalAppend([]byte{what}, m)
	if err != nil {
		return err
	}
	sealed, err := n.cfg.Sealer.Seal(nil, []byte(detourRecord), plain)
	if err != nil {
		return err
	}
	return n.cfg.JetStream.Conn().PublishMsg(&nats.Msg{Subject: subject, Reply: detourOf(n.cfg.Namespace, n.id), Data: sealed})
}

// takeDetours begins to take messages from NATS.
func (n *Node) takeDetours() error {
	if n.cfg.Sealer == nil {
		return nil
	}
	sub, err := n.cfg.JetStream.Conn().Subscribe(detourOf(n.cfg.Namespace, n.id), func(m *nats.Msg) {
		if err := n.arrived(m); err != nil {
			n.log.Warn("message that came through NATS is dropped", "err", err)
		}
	})
	if err != nil {
		return fmt.Errorf("take messages of other nodes from NATS: %w", err)
	}
	n.detourSub = sub
	return nil
}

// arrived takes a message that came through NATS. Those of one node come one after the other, as through the direct connection.
func (n *Node) arrived(m *nats.Msg) error {
	plain, err := n.cfg.Sealer.Open([]byte(detourRecord), m.Data)
	if err != nil {
		return err
	}
	if len(plain) == 0 {
		return fmt.Errorf("it is empty")
	}
	back := func(a *wire.Answer) {
		if err := n.sendAround(m.Reply, a); err != nil {
			n.log.Debug("answer can't go through NATS", "err", err)
		}
	}
	switch what, body := plain[0], plain[1:]; what {
	case detourDevice:
		var d wire.DeviceMessage
		if err := proto.Unmarshal(body, &d); err != nil {
			return err
		}
		n.handled.Add(1)
		n.receive(&d, back)
	case detourNode:
		var d wire.NodeMessage
		if err := proto.Unmarshal(body, &d); err != nil {
			return err
		}
		n.receiveForNode(&d, back)
	case detourAnswer:
		var a wire.Answer
		if err := proto.Unmarshal(body, &a); err != nil {
			return err
		}
		n.answered(&a)
	default:
		return fmt.Errorf("it is of unknown kind %q: upgrade this node", what)
	}
	return nil
}
