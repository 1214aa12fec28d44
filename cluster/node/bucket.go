package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// openBucket opens or creates the bucket of the members, with as many replicas; 0: those that it has, 1 for a new one. Everything in it expires after
// an hour: who lives renews, and who was removed or has left needs no other end.
func openBucket(ctx context.Context, js jetstream.JetStream, namespace string, replicas int) (jetstream.KeyValue, error) {
	name := namespace + "_MEMBERS"
	kv, err := js.KeyValue(ctx, name)
	if errors.Is(err, jetstream.ErrBucketNotFound) {
		kv, err = js.CreateKeyValue(ctx, jetstream.KeyValueConfig{Bucket: name, Description: "The nodes of a Lorikeet cluster", History: 1,
			TTL: keepRemoved, Storage: jetstream.FileStorage, Replicas: max(replicas, 1)})
		if errors.Is(err, jetstream.ErrBucketExists) {
			kv, err = js.KeyValue(ctx, name) // another node was faster
		}
	}
	if err == nil {
		err = replicate(ctx, js, name, replicas)
	}
	if err != nil {
		return nil, fmt.Errorf("bucket %s of the cluster's members: %w", name, err)
	}
	return kv, nil
}

// replicate gives a bucket the number of replicas that is asked for.
func replicate(ctx context.Context, js jetstream.JetStream, bucket string, replicas int) error {
	stream, err := js.Stream(ctx, "KV_"+bucket)
	if err != nil {
		return err
	}
	cfg := stream.CachedInfo().Config
	if replicas == 0 || cfg.Replicas == replicas {
		return nil
	}
	cfg.Replicas = replicas
	_, err = js.UpdateStream(ctx, cfg)
	return err
}

const (
	startPatience = time.Minute            // with a JetStream that is electing its leaders, as when all nodes start at once
	startPause    = 200 * time.Millisecond // between two tries
	tryPatience   = 5 * time.Second        // with one request: what reaches JetStream while it elects a leader may never be answered
)

// noSuitablePeers is the error code of JetStream for too few servers for the replicas.
const noSuitablePeers jetstream.ErrorCode = 10005

// patiently tries something again while JetStream is not ready for it.
func patiently(ctx context.Context, log *slog.Logger, try func() error) error {
	ctx, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	for {
		err := try()
		if err == nil || !transient(err) {
			return err
		}
		log.Info("JetStream is not ready for this node to join; trying again", "err", err)
		if pause(ctx, startPause) != nil {
			return err
		}
	}
}

// transient says whether the cause of an error goes away by itself: no leader, no quorum, no answer yet, a server that has not heard yet of the stream
// that another node has just made, or too few servers there while they start.
func transient(err error) bool {
	for _, passing := range []error{context.DeadlineExceeded, nats.ErrTimeout, nats.ErrNoResponders, nats.ErrConnectionReconnecting, nats.ErrReconnectBufExceeded,
		nats.ErrDisconnected, jetstream.ErrNoStreamResponse} {
		if errors.Is(err, passing) {
			return true
		}
	}
	var answer *jetstream.APIError
	if !errors.As(err, &answer) {
		return false
	}
	switch answer.ErrorCode {
	case jetstream.JSErrCodeStreamNotFound, noSuitablePeers:
		return true
	}
	return answer.Code >= 500
}

// decodeRecord reads an entry of the bucket; nil stands for a key that was deleted.
func decodeRecord(e jetstream.KeyValueEntry) (*record, error) {
	if e.Operation() != jetstream.KeyValuePut {
		return nil, nil
	}
	r := &record{}
	if err := json.Unmarshal(e.Value(), r); err != nil {
		return nil, fmt.Errorf("record of member %s: %w", e.Key(), err)
	}
	return r, nil
}

func encodeRecord(r record) []byte {
	b, err := json.Marshal(r)
	if err != nil {
		panic(err) // strings, numbers and a time of this century
	}
	return b
}

// readAll shows every record of the bucket to see.
func readAll(ctx context.Context, kv jetstream.KeyValue, see func(jetstream.KeyValueEntry)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	w, err := kv.WatchAll(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = w.Stop() }() // it ends with ctx in any case
	for {
		select {
		case e, ok := <-w.Updates():
			if !ok {
				return errors.New("the watch of the cluster's members ended")
			}
			if e == nil {
				return nil
			}
			see(e)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
