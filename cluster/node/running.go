package node

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Running gives the names of the nodes that work on a cluster's state, for those who must be alone with it. It looks for as long as a lease,
// in which a living node renews its record several times; what nodes have left behind that were killed does not count.
func Running(ctx context.Context, js jetstream.JetStream, namespace string, lease time.Duration) ([]string, error) {
	name := namespace + "_MEMBERS"
	kv, err := js.KeyValue(ctx, name)
	if errors.Is(err, jetstream.ErrBucketNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("bucket %s of the cluster's members: %w", name, err)
	}
	w, err := kv.WatchAll(ctx, jetstream.UpdatesOnly())
	if err != nil {
		return nil, fmt.Errorf("watch the cluster's members: %w", err)
	}
	defer func() { _ = w.Stop() }()
	running := map[string]struct{}{}
	for end := time.After(lease); ; {
		select {
		case e, ok := <-w.Updates():
			if !ok {
				return nil, errors.New("the watch of the cluster's members ended")
			}
			if e == nil {
				continue
			}
			if r, err := decodeRecord(e); err != nil {
				return nil, err
			} else if r != nil && r.State != StateRemoved {
				running[r.Name] = struct{}{}
			}
		case <-end:
			return slices.Sorted(maps.Keys(running)), nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}
