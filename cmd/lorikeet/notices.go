package main

import (
	"context"
	"encoding/json"
	"sync"

	"lorikeet/messages"
)

// notices carries what happens to integrations to those who watch, on every node. It keeps nothing.
type notices struct {
	tellNodes func(body []byte) // the other nodes of a cluster; nil on a single node

	mu       sync.Mutex
	last     int
	watchers map[int]func(messages.DeliveryNotice)
}

func newNotices() *notices { return &notices{watchers: map[int]func(messages.DeliveryNotice){}} }

// watch has fn, which must not block, called for each notice until cancel is called.
func (n *notices) watch(fn func(messages.DeliveryNotice)) (cancel func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.last++
	id := n.last
	n.watchers[id] = fn
	return func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		delete(n.watchers, id)
	}
}

// publish does not block.
func (n *notices) publish(notice messages.DeliveryNotice) {
	n.show(notice)
	if n.tellNodes == nil {
		return
	}
	if body, err := json.Marshal(notice); err == nil {
		n.tellNodes(body)
	}
}

func (n *notices) show(notice messages.DeliveryNotice) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, fn := range n.watchers {
		fn(notice)
	}
}

// handle takes a notice of another node.
func (n *notices) handle(_ context.Context, _ string, body []byte) ([]byte, error) {
	var notice messages.DeliveryNotice
	if err := json.Unmarshal(body, &notice); err != nil {
		return nil, messages.Invalid("malformed_message", "notice of another node: %w", err)
	}
	n.show(notice)
	return nil, nil
}
