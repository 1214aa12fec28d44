package node

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"google.golang.org/protobuf/proto"

	"lorikeet/messages"
	"lorikeet/messages/wire"
)

// calls are the requests that wait for the answer of another node.
type calls struct {
	next    atomic.Uint64
	mu      sync.Mutex
	pending map[uint64]*call
}

type call struct {
	id   uint64
	to   string // ID of the incarnation
	done chan *wire.Answer
}

func (c *calls) begin(to string) *call {
	k := &call{id: c.next.Add(1) << 1, to: to, done: make(chan *wire.Answer, 1)} // frames have the odd ids
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.pending == nil {
		c.pending = map[uint64]*call{}
	}
	c.pending[k.id] = k
	return k
}

func (c *calls) end(k *call) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.pending, k.id)
}

// answered hands an answer to who waits for it. A late one is dropped.
func (c *calls) answered(a *wire.Answer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if k := c.pending[a.Id]; k != nil {
		delete(c.pending, a.Id)
		k.done <- a
	}
}

// drop ends the calls to nodes that are no members any more, with no answer.
func (c *calls) drop(t *table) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, k := range c.pending {
		if t.byID[k.to] == nil {
			delete(c.pending, id)
			close(k.done)
		}
	}
}

func (c *calls) len() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.pending)
}

// repeatAfter is how long the answer to a message that may be handled twice is waited for before it is sent again.
const repeatAfter = time.Second

var errOwnerLost = errors.New("the node that was asked has left")

// call sends a message to an actor of another node and waits for the answer. A message that may be handled twice is sent again while none comes.
func (n *Node) call(ctx context.Context, p *peer, target string, make func(id uint64) proto.Message, repeatable bool) (*wire.Answer, error) {
	k := n.calls.begin(p.ID)
	defer n.calls.end(k)
	if n.table.Load().byID[p.ID] == nil {
		return nil, messages.ErrMoved // it has left, and nothing was sent
	}
	n.post(p, target, make(k.id))
	var again <-chan time.Time
	if repeatable {
		t := time.NewTicker(repeatAfter)
		defer t.Stop()
		again = t.C
	}
	for {
		select {
		case a, ok := <-k.done:
			if !ok {
				return nil, errOwnerLost
			}
			return a, nil
		case <-again:
			n.metrics.resent.Inc()
			n.unanswered(p)
			n.post(p, target, make(k.id))
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				n.unanswered(p)
			}
			return nil, ctx.Err()
		}
	}
}

// answersActor takes the answers from other nodes.
type answersActor struct{ node *Node }

func (a *answersActor) Receive(ctx actor.Context) {
	if m, ok := ctx.Message().(*wire.Answer); ok {
		a.node.answered(m)
	}
}

func (n *Node) answered(a *wire.Answer) {
	if a.Id&1 == 1 {
		n.frameAnswered(a)
	} else {
		n.calls.answered(a)
	}
}

func toWire(err error) *wire.Error {
	var e *messages.Error
	if errors.As(err, &e) {
		return &wire.Error{Code: int32(e.Code), Name: e.Name, Message: err.Error()}
	}
	return &wire.Error{Name: "internal", Message: err.Error()}
}

func fromWire(e *wire.Error) error {
	return &messages.Error{Code: messages.Code(e.Code), Name: e.Name, Message: e.Message}
}
