package cluster

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/proto"

	"lorikeet/messages"
	"lorikeet/messages/wire"
)

// Entries keeps what all nodes know of the sessions of each device. Entries are opaque to it; it seals them at rest.
type Entries interface {
	// PutEntry replaces the entry of a device, durably; nil deletes it.
	PutEntry(ctx context.Context, id messages.DeviceID, entry []byte) error
	// FollowEntries calls fn for every entry there is, then caughtUp, then fn for every change of any node, in order, until ctx ends.
	FollowEntries(ctx context.Context, fn func(id messages.DeviceID, entry []byte), caughtUp func()) error
}

// Shared is the directory of one node among many. Each node holds the whole of it. The node that owns a device tells the others when its sessions
// change, and every few thousand frames how far its counter is; the rest of the time nobody is told anything.
//
// A session is added before it is committed and removed after it is gone, so whatever happens in between, the device is found.
type Shared struct {
	*Directory
	store Entries
	log   *slog.Logger

	mu      sync.Mutex
	pending map[messages.DeviceID][]messages.SessionEntry // to be told, newest state only
	wake    chan struct{}

	ready  chan struct{}
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

// OpenShared follows the entries of all nodes; it returns when the directory is built.
func OpenShared(ctx context.Context, store Entries, log *slog.Logger) (*Shared, error) {
	s := &Shared{Directory: NewDirectory(), store: store, log: log, pending: map[messages.DeviceID][]messages.SessionEntry{}, wake: make(chan struct{}, 1), ready: make(chan struct{})}
	s.ctx, s.cancel = context.WithCancel(context.WithoutCancel(ctx))
	failed := make(chan error, 1)
	s.wg.Go(func() {
		err := store.FollowEntries(s.ctx, s.follow, sync.OnceFunc(func() { close(s.ready) }))
		if s.ctx.Err() == nil {
			failed <- err
			log.Error("the directory does not follow the other nodes any more; restart this node", "err", err)
		}
	})
	s.wg.Go(s.tell)
	select {
	case <-s.ready:
		return s, nil
	case err := <-failed:
		s.Close()
		return nil, fmt.Errorf("directory: %w", err)
	case <-ctx.Done():
		s.Close()
		return nil, fmt.Errorf("directory: %w", ctx.Err())
	}
}

// follow takes over what a node said of a device.
func (s *Shared) follow(id messages.DeviceID, entry []byte) {
	var m wire.DirectoryEntry
	if err := proto.Unmarshal(entry, &m); err != nil {
		s.log.Error("damaged directory entry; the device is found again when it joins", "application_id", id.ApplicationID, "device_id", id.DeviceID)
		return
	}
	s.mu.Lock()
	_, own := s.pending[id]
	s.mu.Unlock()
	if own {
		return // what this node is about to tell is newer
	}
	known := s.sessionsOf(id)
	entries := make([]messages.SessionEntry, 0, len(m.Sessions))
	for _, w := range m.Sessions {
		e := messages.SessionEntry{LastFCntUp: w.LastFCntUp, HasFCntUp: w.HasFCntUp, FCnt16: w.FCnt_16, ResetsFCnt: w.ResetsFCnt}
		copy(e.DevAddr[:], w.DevAddr)
		copy(e.NwkSKey[:], w.NwkSKey)
		// The owner's own knowledge of the counter is never behind.
		if i := slices.IndexFunc(known, func(k messages.SessionEntry) bool { return sameSession(k, e) }); i >= 0 && known[i].HasFCntUp && (!e.HasFCntUp || known[i].LastFCntUp > e.LastFCntUp) && !e.ResetsFCnt {
			e.LastFCntUp, e.HasFCntUp = known[i].LastFCntUp, true
		}
		entries = append(entries, e)
	}
	s.Directory.Set(id, entries...)
}

func sameSession(a, b messages.SessionEntry) bool {
	return a.DevAddr == b.DevAddr && a.NwkSKey == b.NwkSKey
}

// Prepare makes sessions findable on every node before they are committed.
func (s *Shared) Prepare(ctx context.Context, id messages.DeviceID, sessions ...messages.SessionEntry) error {
	if err := s.put(ctx, id, sessions); err != nil {
		return err
	}
	s.Directory.Set(id, sessions...)
	return nil
}

// counterStep is how far FCntUp may go before the other nodes are told. They find frames up to 65,535 ahead of what they know.
const counterStep = 1 << 13

// Set says which sessions a device of this node has, after they are durable. It returns at once; the other nodes hear of it soon.
func (s *Shared) Set(id messages.DeviceID, sessions ...messages.SessionEntry) {
	before := s.sessionsOf(id)
	s.Directory.Set(id, sessions...)
	if len(before) == len(sessions) && !slices.ContainsFunc(sessions, func(e messages.SessionEntry) bool { return isNews(before, e) }) {
		return
	}
	s.mu.Lock()
	s.pending[id] = slices.Clone(sessions)
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func isNews(before []messages.SessionEntry, e messages.SessionEntry) bool {
	for _, b := range before {
		if sameSession(b, e) {
			return b.FCnt16 != e.FCnt16 || b.ResetsFCnt != e.ResetsFCnt || b.LastFCntUp/counterStep != e.LastFCntUp/counterStep || e.LastFCntUp < b.LastFCntUp
		}
	}
	return true
}

// tellAtOnce bounds the entries that are on their way to the others at one time.
const tellAtOnce = 64

// tell passes on what is pending, and tries again until it is through.
func (s *Shared) tell() {
	const first = 20 * time.Millisecond
	pause := first
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-s.wake:
		}
		for batch := s.nextPending(); len(batch) > 0; batch = s.nextPending() {
			if s.tellAll(batch) {
				pause = first
				continue
			}
			select {
			case <-s.ctx.Done():
				return
			case <-time.After(pause):
			}
			pause = min(2*pause, time.Second)
		}
	}
}

func (s *Shared) nextPending() map[messages.DeviceID][]messages.SessionEntry {
	s.mu.Lock()
	defer s.mu.Unlock()
	batch := map[messages.DeviceID][]messages.SessionEntry{}
	for id, sessions := range s.pending {
		batch[id] = sessions
		if len(batch) == tellAtOnce {
			break
		}
	}
	return batch
}

// tellAll says whether all of a batch was told. The next batch comes after it, so that the order of one device is kept.
func (s *Shared) tellAll(batch map[messages.DeviceID][]messages.SessionEntry) bool {
	ctx, cancel := context.WithTimeout(s.ctx, 10*time.Second)
	defer cancel()
	var all sync.WaitGroup
	var failed atomic.Bool
	for id, sessions := range batch {
		all.Go(func() {
			err := s.put(ctx, id, sessions)
			if err == nil {
				s.told(id, sessions)
				return
			}
			if !failed.Swap(true) && s.ctx.Err() == nil {
				s.log.Warn("the other nodes can't be told of a device's sessions; trying again", "application_id", id.ApplicationID, "device_id", id.DeviceID, "err", err)
			}
		})
	}
	all.Wait()
	return !failed.Load()
}

// told takes a device off the list, unless it has changed again meanwhile.
func (s *Shared) told(id messages.DeviceID, sessions []messages.SessionEntry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if slices.Equal(s.pending[id], sessions) {
		delete(s.pending, id)
	}
}

func (s *Shared) put(ctx context.Context, id messages.DeviceID, sessions []messages.SessionEntry) error {
	if len(sessions) == 0 {
		return s.store.PutEntry(ctx, id, nil)
	}
	m := &wire.DirectoryEntry{}
	for _, e := range sessions {
		m.Sessions = append(m.Sessions, &wire.DirectorySession{DevAddr: e.DevAddr[:], NwkSKey: e.NwkSKey[:], LastFCntUp: e.LastFCntUp, HasFCntUp: e.HasFCntUp,
			FCnt_16: e.FCnt16, ResetsFCnt: e.ResetsFCnt})
	}
	b, err := proto.Marshal(m)
	if err != nil {
		return err
	}
	return s.store.PutEntry(ctx, id, b)
}

// Close stops following; Flush comes before it.
func (s *Shared) Close() {
	s.cancel()
	s.wg.Wait()
}

// Flush waits until the other nodes know all that this one does.
func (s *Shared) Flush(ctx context.Context) error {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		s.mu.Lock()
		n := len(s.pending)
		s.mu.Unlock()
		if n == 0 {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
