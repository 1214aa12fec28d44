package jetstream

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	js "github.com/nats-io/nats.go/jetstream"

	"lorikeet/messages"
)

const (
	format     = 1 // of everything in the streams
	checkText  = "lorikeet"
	checkName  = "check"
	keyFormat  = "lorikeet-format"
	keyJournal = "lorikeet-journals"

	leastMajor, leastMinor = 2, 12 // of the server: atomic batches
	leastPayload           = 4 << 20
)

// Open opens the store in the namespace, or makes its streams. It refuses a server that is too old, a store of a newer version, one that is
// sealed under another key, one of which a part is gone, and another than Config.Identity. It waits for JetStream until ctx ends.
func Open(ctx context.Context, cfg Config) (_ *Store, err error) {
	if cfg, err = cfg.complete(); err != nil {
		return nil, err
	}
	s := &Store{
		cfg: cfg, log: cfg.Logger, nc: cfg.Conn, names: names{ns: cfg.Namespace, upper: strings.ToUpper(cfg.Namespace), journals: cfg.Journals},
		apps: make(map[string]*appLog), keep: make(map[string]messages.Retention), cursors: make(map[string]uint64), docFeeds: make(map[*progress]struct{}),
	}
	s.metrics = newMetrics(s)
	s.docs = newDocKeys()
	if s.js, s.api, err = Domain(s.nc, cfg.Domain); err != nil {
		return nil, fmt.Errorf("open the store: %w", err)
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	defer func() {
		if err != nil {
			s.cancel()
		}
	}()
	if err := s.checkServer(ctx); err != nil {
		return nil, err
	}
	if err := s.openStreams(ctx); err != nil {
		return nil, err
	}
	if err := s.checkSealer(ctx); err != nil {
		return nil, err
	}
	if err := s.checkIdentity(ctx); err != nil {
		return nil, err
	}
	if err := s.metrics.register(cfg.Metrics); err != nil {
		return nil, err
	}
	s.work(s.watchHealth)
	s.work(s.keepApps)
	if cfg.Retention > 0 {
		s.work(s.keepTrimming)
	}
	s.log.Info("store is open", "namespace", cfg.Namespace, "journals", s.names.journals, "server", s.nc.ConnectedServerVersion())
	return s, nil
}

func (s *Store) checkServer(ctx context.Context) error {
	version := s.nc.ConnectedServerVersion()
	major, rest, _ := strings.Cut(version, ".")
	minor, _, _ := strings.Cut(rest, ".")
	a, err1 := strconv.Atoi(major)
	b, err2 := strconv.Atoi(minor)
	if errors.Join(err1, err2) == nil && (a < leastMajor || a == leastMajor && b < leastMinor) {
		return messages.Errorf(messages.CodePrecondition, "nats_too_old", "the NATS server is version %s, and the store needs %d.%d or newer: update it", version, leastMajor, leastMinor)
	}
	if n := s.nc.MaxPayload(); n < leastPayload {
		s.log.Warn("the NATS server takes only small messages: larger commits will be refused. Set max_payload: 8MB in its configuration", "max_payload", n)
	}
	for try := 0; ; try++ {
		err := s.call(ctx, "INFO", struct{}{}, &struct{}{})
		var api *apiError
		switch {
		case err == nil:
			return nil
		case errors.As(err, &api) && (api.Code < 500 || api.ErrCode == codeNoAccount):
			return messages.Errorf(messages.CodePrecondition, "no_jetstream", "JetStream can't be used on the NATS server (%s): enable it in the server and for the account", api.Description)
		case try == 0:
			s.log.Warn("waiting for JetStream: the NATS servers are electing a leader, or it is not enabled", "err", err)
		}
		if wait(ctx, try) != nil {
			return unavailable("open the store", err, ctx)
		}
	}
}

// openStreams opens the streams of a store, or makes those of a new one. The registry comes first: it says what all of them are like.
func (s *Store) openStreams(ctx context.Context) error {
	registry := s.streamConfig(s.names.registry(), s.names.ns+".r.>", s.names.ns+".k.>")
	registry.MaxMsgsPerSubject, registry.AllowMsgTTL, registry.AllowAtomicPublish = 1, true, true
	registry.Metadata = map[string]string{keyFormat: strconv.Itoa(format), keyJournal: strconv.Itoa(s.names.journals)}
	got, err := s.openRegistry(ctx, registry)
	if err != nil {
		return err
	}
	if f, err := strconv.Atoi(got.Metadata[keyFormat]); err != nil || f > format {
		return messages.Errorf(messages.CodePrecondition, "store_too_new", "stream %s has format %q, and this version knows %d at most: start a newer version of Lorikeet, or choose another namespace", got.Name, got.Metadata[keyFormat], format)
	}
	n, err := strconv.Atoi(got.Metadata[keyJournal])
	if err != nil || n < 1 {
		return messages.Errorf(messages.CodePrecondition, "store_damaged", "stream %s does not say how many journals there are (metadata %s)", got.Name, keyJournal)
	}
	s.names.journals = n
	check, err := s.last(ctx, s.names.registry(), s.names.check())
	if err != nil {
		return err
	}
	for _, c := range s.otherStreams() {
		if check == nil {
			_, err = s.makeStream(ctx, c)
		} else {
			_, err = s.openStream(ctx, c, s.cfg.missingFor)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// otherStreams are those beside the registry.
func (s *Store) otherStreams() []js.StreamConfig {
	cursors := s.streamConfig(s.names.cursors(), s.names.ns+".u.>")
	cursors.MaxMsgsPerSubject = 1
	directory := s.streamConfig(s.names.directory(), s.names.ns+".d.>")
	directory.MaxMsgsPerSubject, directory.AllowMsgTTL = 1, true
	all := []js.StreamConfig{cursors, directory}
	for i := range s.names.journals {
		all = append(all, s.streamConfig(s.names.journal(i), fmt.Sprintf("%s.j.%d.>", s.names.ns, i), fmt.Sprintf("%s.c.%d.>", s.names.ns, i)))
	}
	return all
}

// openRegistry makes the registry only if there is no sign that it was there before: an empty one beside the rest of a store would let devices join
// anew, with counters that were used.
func (s *Store) openRegistry(ctx context.Context, registry js.StreamConfig) (js.StreamConfig, error) {
	known := s.cfg.Identity != ""
	patience := time.Duration(0)
	if known {
		patience = s.cfg.missingFor
	}
	got, err := s.openStream(ctx, registry, patience)
	if !errors.Is(err, errMissing) {
		return got, err
	}
	if known {
		return got, messages.Errorf(messages.CodePrecondition, "store_gone",
			"the NATS servers hold no store in namespace %s, and this node has worked with one (%s): if they have lost it, restore a backup of the streams, else point the node at the servers that hold it",
			s.cfg.Namespace, s.cfg.Identity)
	}
	switch _, rest := s.openStream(ctx, s.streamConfig(s.names.journal(0)), 0); {
	case errors.Is(rest, errMissing):
		return s.makeStream(ctx, registry)
	case rest != nil:
		return got, rest
	}
	// There is a journal; but another node may just have made both.
	return s.openStream(ctx, registry, s.cfg.missingFor)
}

func (s *Store) streamConfig(name string, subjects ...string) js.StreamConfig {
	return js.StreamConfig{
		Name: name, Subjects: subjects, Description: "Lorikeet: see package persistence/jetstream. Do not write to it.",
		Retention: js.LimitsPolicy, Discard: js.DiscardOld, Storage: js.FileStorage, Replicas: max(s.cfg.Replicas, 1),
		MaxConsumers: -1, MaxMsgs: -1, MaxBytes: -1, MaxMsgSize: -1, MaxMsgsPerSubject: -1, AllowDirect: true, Duplicates: dedupWindow,
	}
}

// errMissing is the error for a stream that should be there.
var errMissing = messages.Errorf(messages.CodePrecondition, "stream_missing",
	"it is gone, and the rest of the store is there: it was deleted, or the NATS servers have lost it. Restore it from a backup: an empty one in its place would let counters begin anew")

// openStream takes the stream that is there and gives it the number of replicas that is asked for. errMissing: it was not there for as long as patience.
func (s *Store) openStream(ctx context.Context, want js.StreamConfig, patience time.Duration) (js.StreamConfig, error) {
	return s.untilItIs(ctx, want, false, patience)
}

// makeStream is openStream for a stream that is made if it is not there.
func (s *Store) makeStream(ctx context.Context, want js.StreamConfig) (js.StreamConfig, error) {
	return s.untilItIs(ctx, want, true, 0)
}

func (s *Store) untilItIs(ctx context.Context, want js.StreamConfig, create bool, patience time.Duration) (js.StreamConfig, error) {
	start := time.Now()
	for try := 0; ; try++ {
		got, err := s.tryStream(ctx, want, create)
		if err == nil {
			return got, nil
		}
		if late := errors.Is(err, errMissing) && time.Since(start) < patience; !late && !mayYetBe(err) {
			return got, fmt.Errorf("open the store: stream %s with %d replicas: %w", want.Name, want.Replicas, err)
		}
		if try == 0 {
			s.log.Info("waiting for a stream", "stream", want.Name, "err", err)
		}
		if wait(ctx, try) != nil {
			return got, unavailable("open stream "+want.Name, err, ctx)
		}
	}
}

// mayYetBe says whether a stream that can't be made or read now may be later: in a cluster that is just starting there are too few servers at
// first, and another node may be making the same stream.
func mayYetBe(err error) bool {
	if errors.Is(err, errMissing) {
		return false
	}
	var api *js.APIError
	if !errors.As(err, &api) {
		return true
	}
	switch api.ErrorCode {
	case codeNoReplicas:
		return false
	case codeNoPeers, js.JSErrCodeStreamNameInUse:
		return true
	}
	return api.Code >= 500
}

func (s *Store) tryStream(ctx context.Context, want js.StreamConfig, create bool) (js.StreamConfig, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second) // making a raft group takes its time
	defer cancel()
	stream, err := s.js.Stream(ctx, want.Name)
	if errors.Is(err, js.ErrStreamNotFound) {
		if !create {
			return want, errMissing
		}
		stream, err = s.js.CreateStream(ctx, want)
	}
	if err != nil {
		return want, err
	}
	got := stream.CachedInfo().Config
	if s.cfg.Replicas == 0 || got.Replicas == s.cfg.Replicas {
		return got, nil
	}
	s.log.Info("changing the number of replicas of a stream", "stream", want.Name, "from", got.Replicas, "to", s.cfg.Replicas)
	got.Replicas = s.cfg.Replicas
	_, err = s.js.UpdateStream(ctx, got)
	return got, err
}

// checkSealer makes sure that the store was sealed under a key that is at hand. The first node of a new store leaves the record for that.
func (s *Store) checkSealer(ctx context.Context) error {
	for {
		m, err := s.last(ctx, s.names.registry(), s.names.check())
		if err != nil {
			return err
		}
		after := uint64(0)
		if m != nil {
			id, known, current := s.cfg.Sealer.Key(m.data)
			if !known {
				return messages.Errorf(messages.CodePrecondition, "wrong_kek",
					"the store in namespace %s is sealed under the key-encryption key %s, and the one given is %s: give all nodes the key file (or environment variable) that belongs to this store. If it is lost, so are the device keys",
					s.cfg.Namespace, id, s.cfg.Sealer.KeyID())
			}
			if _, err := s.cfg.Sealer.Open([]byte(checkName), m.data); err != nil {
				return damaged(m, err)
			}
			if current {
				return nil
			}
			after = m.seq
		}
		sealed, err := s.cfg.Sealer.Seal(nil, []byte(checkName), []byte(checkText))
		if err != nil {
			return err
		}
		_, err = s.append(ctx, publication{stream: s.names.registry(), subject: s.names.check(), data: sealed, after: after})
		if !errors.Is(err, messages.ErrConflict) {
			return err
		}
		// Another node was first: look at what it wrote.
	}
}

// checkIdentity reads which store this is. The first node of a new store decides.
func (s *Store) checkIdentity(ctx context.Context) error {
	for s.identity == "" {
		m, err := s.last(ctx, s.names.cursors(), s.names.identity())
		if err != nil {
			return err
		}
		if m != nil {
			s.identity = string(m.data)
			break
		}
		fresh := newNonce()
		_, err = s.append(ctx, publication{stream: s.names.cursors(), subject: s.names.identity(), data: []byte(fresh)})
		switch {
		case err == nil:
			s.identity = fresh
		case !errors.Is(err, messages.ErrConflict):
			return err
		}
	}
	if s.cfg.Identity != "" && s.cfg.Identity != s.identity {
		return messages.Errorf(messages.CodePrecondition, "another_store",
			"the NATS servers hold store %s in namespace %s, and this node has worked with %s: devices would meet counters that they know. Check the addresses of the servers and the namespace",
			s.identity, s.cfg.Namespace, s.cfg.Identity)
	}
	return nil
}

// Identity tells this store from all others, also from a later one in the same place.
func (s *Store) Identity() string { return s.identity }
