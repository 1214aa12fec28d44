package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"google.golang.org/protobuf/proto"

	"lorikeet/messages"
	"lorikeet/messages/wire"
)

// keepers is how many actors of a node take messages for devices. Nodes of all versions must agree on it.
const keepers = 16

// keeperOf names the keeper of a shard. The order of one sender's messages to one device is kept.
func keeperOf(shard int) string { return keeperNames[shard%keepers] }

var keeperNames = func() (names [keepers]string) {
	for i := range names {
		names[i] = fmt.Sprintf("%s/%d", kindDevice, i)
	}
	return names
}()

// keeper takes the messages of other nodes for devices of this one.
type keeper struct{ node *Node }

func (k *keeper) Receive(ctx actor.Context) {
	if m, ok := ctx.Message().(*wire.DeviceMessage); ok {
		k.node.handled.Add(1)
		k.node.receive(m, k.node.backTo(ctx.Sender()))
	}
}

// backTo sends an answer to the actor that asked.
func (n *Node) backTo(sender *actor.PID) func(*wire.Answer) {
	return func(a *wire.Answer) {
		if sender != nil {
			n.system.Root.Send(sender, a)
		}
	}
}

// receive takes a message for a device of this node; back brings answers to the node that sent it.
func (n *Node) receive(m *wire.DeviceMessage, back func(*wire.Answer)) {
	answer := func(a *wire.Answer) {
		if m.Id != 0 {
			a.Id = m.Id
			back(a)
		}
	}
	defer func() {
		if r := recover(); r != nil { // a body that the codec stumbles over must not end the keeper
			answer(&wire.Answer{Error: toWire(messages.Errorf(messages.CodeInternal, "node_failed", "node %s failed on a message of kind %q: %v", n.cfg.Name, m.Kind, r))})
		}
	}()
	id := messages.DeviceID{ApplicationID: m.ApplicationId, DeviceID: m.DeviceId}
	if !n.Owns(id) {
		answer(&wire.Answer{Moved: true})
		return
	}
	message, err := n.cfg.Codec.Decode(m.Kind, m.Body)
	if err != nil {
		answer(&wire.Answer{Error: toWire(err)})
		return
	}
	if tracked, ok := message.(Tracked); ok {
		tracked.OnSettled(func() { answer(&wire.Answer{}) })
	} else if m.Id != 0 {
		message = &incoming{command: message, answer: func(v any, err error) { answer(n.answerOf(m.Kind, v, err)) }}
	}
	if !n.local.Deliver(id, message) {
		answer(&wire.Answer{Moved: true})
	}
}

func (n *Node) answerOf(kind string, value any, err error) *wire.Answer {
	if errors.Is(err, messages.ErrMoved) {
		return &wire.Answer{Moved: true}
	}
	if err != nil {
		return &wire.Answer{Error: toWire(err)}
	}
	body, err := n.cfg.Codec.EncodeAnswer(kind, value)
	if err != nil {
		return &wire.Answer{Error: toWire(fmt.Errorf("answer to %q: %w", kind, err))}
	}
	return &wire.Answer{Body: body}
}

// incoming is a command of another node, as the device actor sees it.
type incoming struct {
	command any
	answer  func(any, error)
}

// Asked is the command.
func (r *incoming) Asked() any { return r.command }

// Answer sends the outcome to the node that asked.
func (r *incoming) Answer(value any, err error) { r.answer(value, err) }

// refuse ends what was taken in and can't be handled here any more.
func (n *Node) refuse(id messages.DeviceID, message any) {
	if asked, ok := message.(interface{ Answer(any, error) }); ok {
		asked.Answer(nil, messages.ErrMoved)
		return
	}
	n.keep(id, message)
}

// handleTimeout bounds the handlers of requests between nodes.
const handleTimeout = 30 * time.Second

// kindSeen asks a node to answer when its table shows a revision, given in decimal.
const kindSeen = "_seen"

// doorman takes the messages of other nodes for this one.
type doorman struct{ node *Node }

func (d *doorman) Receive(ctx actor.Context) {
	m, ok := ctx.Message().(*wire.NodeMessage)
	if !ok {
		return
	}
	d.node.receiveForNode(m, d.node.backTo(ctx.Sender()))
}

func (n *Node) receiveForNode(m *wire.NodeMessage, back func(*wire.Answer)) {
	if m.Id == 0 {
		if _, err := n.handle(n.ctx, m.Kind, m.From, m.Body); err != nil {
			n.log.Warn("message of another node is dropped", "node", m.From, "kind", m.Kind, "err", err)
		}
		return
	}
	go func() {
		ctx, cancel := context.WithTimeout(n.ctx, handleTimeout)
		defer cancel()
		a := &wire.Answer{Id: m.Id}
		body, err := n.handle(ctx, m.Kind, m.From, m.Body)
		if a.Body = body; err != nil {
			a.Error = toWire(err)
		}
		back(a)
	}()
}

func (n *Node) handle(ctx context.Context, kind, from string, body []byte) (answer []byte, err error) {
	defer func() {
		if r := recover(); r != nil {
			answer, err = nil, messages.Errorf(messages.CodeInternal, "node_failed", "node %s failed on a message of kind %q: %v", n.cfg.Name, kind, r)
		}
	}()
	switch kind {
	case kindSeen:
		return nil, n.seenAnswer(ctx, body)
	case kindPing:
		return nil, nil
	}
	h := n.cfg.Handlers[kind]
	if h == nil {
		return nil, messages.Errorf(messages.CodePrecondition, "unknown_kind", "node %s (Lorikeet %s) does not know messages of kind %q: upgrade it", n.cfg.Name, n.cfg.Version, kind)
	}
	return h(ctx, from, body)
}

// doormanName is the id of the doorman in every node.
const doormanName = "node"

// AskNode sends a message to a node by its name and waits for the answer of the handler there. It is sent once.
func (n *Node) AskNode(ctx context.Context, name, kind string, body []byte) ([]byte, error) {
	p := n.table.Load().peers[name]
	switch {
	case p == nil:
		return nil, messages.Errorf(messages.CodeUnavailable, "node_unknown", "node %s is not in the cluster", name)
	case p.ID == n.id:
		return n.handle(ctx, kind, n.cfg.Name, body)
	}
	a, err := n.call(ctx, p, doormanName, func(id uint64) proto.Message {
		return &wire.NodeMessage{Id: id, Kind: kind, Body: body, From: n.cfg.Name}
	}, false)
	if err != nil {
		return nil, messages.Errorf(messages.CodeUnavailable, "node_busy", "node %s did not answer: %w", name, err)
	}
	if a.Error != nil {
		return nil, fromWire(a.Error)
	}
	return a.Body, nil
}

// TellNodes sends a message to all other nodes, once, and does not wait.
func (n *Node) TellNodes(kind string, body []byte) {
	for _, p := range n.table.Load().byID {
		if p.ID != n.id {
			n.post(p, doormanName, &wire.NodeMessage{Kind: kind, Body: body, From: n.cfg.Name})
		}
	}
}
