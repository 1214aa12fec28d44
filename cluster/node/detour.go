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

// detours are the nodes that owe an answer. One of them that does not even answer a probe gets its messages through NATS, which both reach as long as
// they are members, until a probe shows that it answers directly again.
type detours struct {
	mu    sync.Mutex
	nodes map[string]*detour // by ID of the incarnation
}

type detour struct {
	on   bool          // else it may only be slow
	next time.Duration // when it is probed
}

// on says whether messages to a node go through NATS.
func (d *detours) on(id string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	to := d.nodes[id]
	return to != nil && to.on
}

// doubt has a node probed.
func (d *detours) doubt(id string, now time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.nodes == nil {
		d.nodes = map[string]*detour{}
	}
	if d.nodes[id] == nil {
		d.nodes[id] = &detour{next: now}
	}
}

// probed takes the outcome of a probe, and says whether it makes a difference to where messages go.
func (d *detours) probed(id string, answered bool) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	to := d.nodes[id]
	switch {
	case to == nil:
		return false
	case answered:
		delete(d.nodes, id)
		return to.on
	}
	begins := !to.on
	to.on = true
	return begins
}

// due gives the nodes that are to be probed now.
func (d *detours) due(now time.Duration) (out []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for id, to := range d.nodes {
		if now >= to.next {
			to.next = now + probePause
			out = append(out, id)
		}
	}
	return out
}

func (d *detours) len() (n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, to := range d.nodes {
		if to.on {
			n++
		}
	}
	return n
}

// unanswered notes that a node has not answered in time: it, or what it waits for, is slow, or it can't be reached.
func (n *Node) unanswered(p *peer) {
	if n.cfg.Sealer != nil && p.Detour {
		n.detours.doubt(p.ID, n.now())
	}
}

// probe asks the nodes that are in doubt or on a detour to answer directly.
func (n *Node) probe() {
	t := n.table.Load()
	for _, id := range n.detours.due(n.now()) {
		p := t.byID[id]
		if p == nil { // it is no member any more
			n.detours.probed(id, true)
			continue
		}
		n.wg.Go(func() {
			answered, ended := n.ping(p)
			switch {
			case ended || !n.detours.probed(p.ID, answered):
			case answered:
				n.log.Info("node answers directly again", "node", p.Name, "address", p.Address)
			default:
				n.log.Warn("node can't be reached directly; messages for it go through NATS", "node", p.Name, "address", p.Address)
				n.frames.recall(p.ID, n.now())
			}
		})
	}
}

// ping says whether a node answers directly; ended: this one has ended before that was known.
func (n *Node) ping(p *peer) (answered, ended bool) {
	k := n.calls.begin(p.ID)
	defer n.calls.end(k)
	n.direct(p, doormanName, &wire.NodeMessage{Id: k.id, Kind: kindPing, From: n.cfg.Name})
	timer := time.NewTimer(probePause)
	defer timer.Stop()
	select {
	case _, ok := <-k.done:
		return ok, !ok // not ok: one of the two is no member any more
	case <-timer.C:
		return false, false
	case <-n.ctx.Done():
		return false, true
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
