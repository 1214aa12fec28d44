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

// Running gives the names of the nodes that work on a cluster's state, for those who must be alone with it. It looks for as long as the longest lease that
// a node has noted, and the one given at least; in a lease a living node renews its record several times. What killed nodes have left behind does not count.
func Running(ctx context.Context, js jetstream.JetStream, namespace string, lease time.Duration) ([]string, error) {
	name := namespace + "_MEMBERS"
	kv, err := js.KeyValue(ctx, name)
	if errors.Is(err, jetstream.ErrBucketNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("bucket %s of the cluster's members: %w", name, err)
	}
	w, err := kv.WatchAll(ctx)
	if err != nil {
		return nil, fmt.Errorf("watch the cluster's members: %w", err)
	}
	defer func() { _ = w.Stop() }()
	running := map[string]struct{}{}
	var end <-chan time.Time // set when all that was there before is read
	for {
		select {
		case e, ok := <-w.Updates():
			if !ok {
				return nil, errors.New("the watch of the cluster's members ended")
			}
			if e == nil {
				end = time.After(lease)
				continue
			}
			switch r, err := decodeRecord(e); {
			case err != nil:
				return nil, err
			case r == nil || r.State == StateRemoved:
			case end == nil:
				lease = max(lease, r.Lease)
			default:
				running[r.Name] = struct{}{}
			}
		case <-end:
			return slices.Sorted(maps.Keys(running)), nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}
