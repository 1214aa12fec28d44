package memory

import (
	"bytes"
	"cmp"
	"context"
	"slices"

	"lorikeet/messages"
)

// Node is what one node of a cluster sees of a store that several share. It is the whole store, and follows what others write in it.
type Node struct {
	*Store
	queue     []change // what the follower has not been given yet
	follows   bool
	attached  uint64 // how often a follower began
	queued    uint64 // changes that were ever put into queue
	delivered uint64 // changes that the follower has dealt with
	moved     chan struct{}
}

type change struct {
	doc     messages.Document
	deleted bool
}

// Node makes another view of the store. Closing it closes the store.
func (s *Store) Node() *Node {
	n := &Node{Store: s, moved: make(chan struct{})}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.nodes = append(s.nodes, n)
	return n
}

// move wakes who waits for a change of the node's fields; the caller has the lock.
func (n *Node) move() {
	close(n.moved)
	n.moved = make(chan struct{})
}

func (n *Node) push(c change) {
	n.queue = append(n.queue, c)
	n.queued++
}

// announce gives a change to all that follow; the caller has the lock.
func (s *Store) announce(w messages.Write) {
	for _, n := range s.nodes {
		if n.follows {
			n.push(change{messages.Document{Kind: w.Kind, ID: w.ID, Revision: s.writes, Value: bytes.Clone(w.Value)}, w.Value == nil})
			n.move()
		}
	}
}

// FollowDocuments calls fn for every document there is and then for every change, one after the other, by revision. It returns nil when ctx ends,
// and an error when the store is closed or is followed through this Node already.
func (n *Node) FollowDocuments(ctx context.Context, fn func(doc messages.Document, deleted bool)) error {
	if err := n.attach(ctx); err != nil {
		return err
	}
	defer n.detach()
	for {
		n.mu.Lock()
		closed, moved, next := n.closed, n.moved, n.queue
		n.queue = nil
		n.mu.Unlock()
		if closed {
			return errClosed
		}
		for _, c := range next {
			if ctx.Err() != nil {
				return nil
			}
			fn(c.doc, c.deleted)
			n.mu.Lock()
			n.delivered++
			n.move()
			n.mu.Unlock()
		}
		if len(next) > 0 {
			continue
		}
		select {
		case <-ctx.Done():
			return nil
		case <-moved:
		}
	}
}

func (n *Node) attach(ctx context.Context) error {
	if err := n.enter(ctx); err != nil {
		return err
	}
	defer n.mu.Unlock()
	if n.follows {
		return messages.Errorf(messages.CodeInternal, "followed_already", "the documents are followed through this node already: make another one")
	}
	n.follows = true
	n.attached++
	for kind, docs := range n.docs {
		for id, r := range docs {
			n.push(change{doc: messages.Document{Kind: kind, ID: id, Revision: r.revision, Value: bytes.Clone(r.value)}})
		}
	}
	slices.SortFunc(n.queue, func(a, b change) int { return cmp.Compare(a.doc.Revision, b.doc.Revision) })
	n.move()
	return nil
}

func (n *Node) detach() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.follows, n.queue, n.queued, n.delivered = false, nil, 0, 0
	n.move()
}

// SyncDocuments returns when the follower has dealt with every change that was made before the call. Without a follower it waits for one.
func (n *Node) SyncDocuments(ctx context.Context) error {
	if err := n.enter(ctx); err != nil {
		return err
	}
	attached, target := n.attached, n.queued
	for {
		if n.attached != attached {
			attached, target = n.attached, n.queued
		}
		closed, reached, moved := n.closed, n.follows && n.delivered >= target, n.moved
		n.mu.Unlock()
		switch {
		case closed:
			return errClosed
		case reached:
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-moved:
		}
		n.mu.Lock()
	}
}
