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

const (
	movedPause    = 10 * time.Millisecond // before the owner is looked up again
	movedPauseMax = 200 * time.Millisecond
)

// Ask sends a command to the actor of a device, wherever it lives, and waits for its answer. While the device moves between nodes it is sent again, as
// nothing was done. When ctx ends first, or the owner dies, the outcome is unknown: a command that is Repeatable is then sent to the next owner,
// any other ends with messages.CodeUnavailable.
func (n *Node) Ask(ctx context.Context, id messages.DeviceID, command any) (any, error) {
	for wait := movedPause; ; wait = min(2*wait, movedPauseMax) {
		turn := *n.turn.Load()
		v, err := n.askOwner(ctx, id, command)
		if !errors.Is(err, messages.ErrMoved) {
			return v, err
		}
		n.metrics.moved.Inc()
		timer := time.NewTimer(wait)
		select {
		case <-turn:
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil, messages.Errorf(messages.CodeUnavailable, "device_moving", "device %s is moving between nodes and was not reached in time; nothing was done, try again", id)
		}
		timer.Stop()
	}
}

func (n *Node) askOwner(ctx context.Context, id messages.DeviceID, command any) (any, error) {
	shard := deviceShard(id)
	t := n.table.Load()
	p := t.owners[shard]
	switch {
	case !n.members.fit():
		return nil, errSuspended
	case p == nil:
		return nil, messages.ErrMoved
	case t.owns(shard):
		return n.local.Ask(ctx, id, command)
	}
	kind, body, err := n.cfg.Codec.Encode(command)
	if err != nil {
		return nil, fmt.Errorf("request to device %s: %w", id, err)
	}
	repeatable := n.cfg.Codec.Repeatable(kind)
	a, err := n.call(ctx, p, keeperOf(shard), func(call uint64) proto.Message {
		return &wire.DeviceMessage{Id: call, ApplicationId: id.ApplicationID, DeviceId: id.DeviceID, Kind: kind, Body: body}
	}, repeatable)
	switch {
	case errors.Is(err, messages.ErrMoved), errors.Is(err, errOwnerLost) && repeatable:
		return nil, messages.ErrMoved
	case err != nil:
		return nil, messages.Errorf(messages.CodeUnavailable, "device_busy", "device %s did not answer in time; look whether the request had effect before you repeat it", id)
	case a.Moved:
		return nil, messages.ErrMoved
	case a.Error != nil:
		return nil, fromWire(a.Error)
	}
	return n.cfg.Codec.DecodeAnswer(kind, a.Body)
}

// Tell sends a message to the actor of a device and does not wait. A Tracked message reaches it if any node can; another that is for a device of
// another node is sent once.
func (n *Node) Tell(id messages.DeviceID, message any) {
	shard := deviceShard(id)
	t := n.table.Load()
	_, tracked := message.(Tracked)
	switch {
	case t.owns(shard) && n.members.fit() && !n.frames.holds(id) && n.local.Deliver(id, message):
	case tracked, t.owns(shard):
		n.keep(id, message)
	case t.owners[shard] != nil && !t.owns(shard):
		kind, body, err := n.cfg.Codec.Encode(message)
		if err != nil {
			n.log.Debug("message can't be sent to another node", "device_id", id.DeviceID, "application_id", id.ApplicationID, "err", err)
			return
		}
		n.post(t.owners[shard], keeperOf(shard),
			&wire.DeviceMessage{ApplicationId: id.ApplicationID, DeviceId: id.DeviceID, Kind: kind, Body: body})
	}
}

// Retire stops an actor of this node that asks for it itself.
func (n *Node) Retire(id messages.DeviceID, pid *actor.PID) { n.local.Retire(id, pid) }

// TellAwake reaches the awake actors of this node only: see cluster.Local.TellAwake.
func (n *Node) TellAwake(applicationID, deviceID string, message any) {
	n.local.TellAwake(applicationID, deviceID, message)
}
