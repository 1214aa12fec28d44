package main

import (
	"context"
	"encoding/json"

	"lorikeet/messages"
)

// notices carries what happens to integrations to those who watch, on every node. It keeps nothing.
type notices struct {
	tellNodes func(body []byte) // the other nodes of a cluster; nil on a single node

	watchers[messages.DeliveryNotice]
}

// publish does not block.
func (n *notices) publish(notice messages.DeliveryNotice) {
	n.tell(notice)
	if n.tellNodes == nil {
		return
	}
	if body, err := json.Marshal(notice); err == nil {
		n.tellNodes(body)
	}
}

// handle takes a notice of another node.
func (n *notices) handle(_ context.Context, _ string, body []byte) ([]byte, error) {
	var notice messages.DeliveryNotice
	if err := json.Unmarshal(body, &notice); err != nil {
		return nil, messages.Invalid("malformed_message", "notice of another node: %w", err)
	}
	n.tell(notice)
	return nil, nil
}
