package webhook

import (
	"bytes"
	"encoding/json"
	"strings"

	"lorikeet/messages"
)

const maxMaskDepth = 32

// maskNode is a tree of the members to keep. A node without children keeps everything below.
type maskNode struct {
	children map[string]*maskNode
}

// newMask makes the filter of a message type from the paths of a field mask; nil (no filter) if none of them is about the type.
// end_device_ids and received_at are kept always.
func newMask(t messages.EventType, paths []string) *maskNode {
	root := &maskNode{}
	found := false
	for _, path := range paths {
		parts := strings.Split(strings.TrimPrefix(path, "up."), ".")
		if parts[0] != string(t) || len(parts) > maxMaskDepth {
			continue
		}
		found = true
		root.keep(parts)
	}
	if !found {
		return nil
	}
	for _, path := range paths {
		if !strings.HasPrefix(path, "up.") && path != "" { // correlation_ids, simulated
			if parts := strings.Split(path, "."); !isEventType(parts[0]) && len(parts) <= maxMaskDepth {
				root.keep(parts)
			}
		}
	}
	root.keep([]string{"end_device_ids"})
	root.keep([]string{"received_at"})
	return root
}

func isEventType(name string) bool {
	for _, t := range messages.EventTypes {
		if name == string(t) {
			return true
		}
	}
	return false
}

// keep adds a path. The shorter of two paths wins: it keeps all below.
func (n *maskNode) keep(parts []string) {
	if n.children == nil {
		n.children = map[string]*maskNode{}
	}
	child, known := n.children[parts[0]]
	switch {
	case len(parts) == 1:
		n.children[parts[0]] = &maskNode{}
	case !known:
		child = &maskNode{}
		n.children[parts[0]] = child
		child.keep(parts[1:])
	case child.children != nil:
		child.keep(parts[1:])
	}
}

// filter keeps the members that the tree names, in their order. What is not an object is kept whole.
func (n *maskNode) filter(in []byte) ([]byte, error) {
	if n.children == nil || len(in) == 0 || in[0] != '{' {
		return in, nil
	}
	dec := json.NewDecoder(bytes.NewReader(in))
	if _, err := dec.Token(); err != nil {
		return nil, err
	}
	out := append(make([]byte, 0, len(in)), '{')
	for dec.More() {
		name, err := dec.Token()
		if err != nil {
			return nil, err
		}
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return nil, err
		}
		child := n.children[name.(string)]
		if child == nil {
			continue
		}
		if value, err = child.filter(value); err != nil {
			return nil, err
		}
		if len(out) > 1 {
			out = append(out, ',')
		}
		key, err := json.Marshal(name)
		if err != nil {
			return nil, err
		}
		out = append(append(append(out, key...), ':'), value...)
	}
	if _, err := dec.Token(); err != nil {
		return nil, err
	}
	return append(out, '}'), nil
}
