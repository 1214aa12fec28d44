package node

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"time"

	"lorikeet/messages"
)

const (
	seenTimeout = time.Second            // for the others to see that we are leaving
	quietFor    = 100 * time.Millisecond // without a straggler
	quietLimit  = 2 * time.Second
)

// Leave hands over to the others and leaves the cluster. Messages that still come meanwhile are answered with moved, so no request is lost. Stop has to follow.
func (n *Node) Leave(ctx context.Context) error {
	revision, err := n.members.set(ctx, StateLeaving)
	if err != nil {
		return err
	}
	err = n.seen.wait(ctx, revision)
	n.barrier(ctx, revision)
	err = errors.Join(err, n.local.StopWhere(ctx, func(messages.DeviceID) bool { return true }))
	n.quiet(ctx)
	n.barrier(ctx, revision) // behind all our answers, so they have arrived
	n.members.close()
	if n.members.lost.Load() {
		return err
	}
	return errors.Join(err, n.members.depart(ctx))
}

// barrier waits until every other member's table shows a revision, or is taken to be dead.
func (n *Node) barrier(ctx context.Context, revision uint64) {
	ctx, cancel := context.WithTimeout(ctx, seenTimeout)
	defer cancel()
	var wg sync.WaitGroup
	for name, p := range n.table.Load().peers {
		if p.ID == n.id {
			continue
		}
		wg.Go(func() {
			if _, err := n.AskNode(ctx, name, kindSeen, strconv.AppendUint(nil, revision, 10)); err != nil {
				n.log.Warn("node does not say that it has seen this one leave", "node", name, "err", err)
			}
		})
	}
	wg.Wait()
}

func (n *Node) seenAnswer(ctx context.Context, body []byte) error {
	revision, err := strconv.ParseUint(string(body), 10, 64)
	if err != nil {
		return messages.Invalid("invalid_revision", "revision %q is no number", body)
	}
	return n.seen.wait(ctx, revision)
}

// quiet waits until nothing is on its way: no frame kept here, no call open, no straggler for a while.
func (n *Node) quiet(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, quietLimit)
	defer cancel()
	for still := time.Duration(0); still < quietFor; {
		before := n.handled.Load()
		if pause(ctx, quietFor/4) != nil {
			return
		}
		still += quietFor / 4
		if n.handled.Load() != before || n.frames.len() > 0 || n.calls.len() > 0 {
			still = 0
		}
	}
}

// revisions lets others wait until a revision is reached.
type revisions struct {
	mu      sync.Mutex
	reached uint64
	turn    chan struct{} // closed at the next step; nil if nobody waits
}

func (r *revisions) reach(revision uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.reached = max(r.reached, revision)
	if r.turn != nil {
		close(r.turn)
		r.turn = nil
	}
}

func (r *revisions) wait(ctx context.Context, revision uint64) error {
	for {
		r.mu.Lock()
		if r.reached >= revision {
			r.mu.Unlock()
			return nil
		}
		if r.turn == nil {
			r.turn = make(chan struct{})
		}
		turn := r.turn
		r.mu.Unlock()
		select {
		case <-turn:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
