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

// Open opens the store in the namespace, or makes its streams. It refuses a server that is too old, a store of a newer version, and one that is
// sealed under another key. It waits for JetStream until ctx ends.
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
	err := s.retry(ctx, "open the store", "INFO", struct{}{}, &struct{}{})
	var api *apiError
	if errors.As(err, &api) {
		return messages.Errorf(messages.CodePrecondition, "no_jetstream", "JetStream can't be used on the NATS server (%s): enable it in the server and for the account", api.Description)
	}
	return err
}

// openStreams makes the streams that are not there. The registry comes first: it says what all of them are like.
func (s *Store) openStreams(ctx context.Context) error {
	registry := s.streamConfig(s.names.registry(), s.names.ns+".r.>", s.names.ns+".k.>")
	registry.MaxMsgsPerSubject, registry.AllowMsgTTL, registry.AllowAtomicPublish = 1, true, true
	registry.Metadata = map[string]string{keyFormat: strconv.Itoa(format), keyJournal: strconv.Itoa(s.names.journals)}
	got, err := s.openStream(ctx, registry)
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
	cursors := s.streamConfig(s.names.cursors(), s.names.ns+".u.>")
	cursors.MaxMsgsPerSubject = 1
	directory := s.streamConfig(s.names.directory(), s.names.ns+".d.>")
	directory.MaxMsgsPerSubject, directory.AllowMsgTTL = 1, true
	all := []js.StreamConfig{cursors, directory}
	for i := range n {
		all = append(all, s.streamConfig(s.names.journal(i), fmt.Sprintf("%s.j.%d.>", s.names.ns, i), fmt.Sprintf("%s.c.%d.>", s.names.ns, i)))
	}
	for _, c := range all {
		if _, err := s.openStream(ctx, c); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) streamConfig(name string, subjects ...string) js.StreamConfig {
	return js.StreamConfig{
		Name: name, Subjects: subjects, Description: "Lorikeet: see package persistence/jetstream. Do not write to it.",
		Retention: js.LimitsPolicy, Discard: js.DiscardOld, Storage: js.FileStorage, Replicas: max(s.cfg.Replicas, 1),
		MaxConsumers: -1, MaxMsgs: -1, MaxBytes: -1, MaxMsgSize: -1, MaxMsgsPerSubject: -1, AllowDirect: true, Duplicates: dedupWindow,
	}
}

// openStream makes a stream, or takes the one that is there and gives it the number of replicas that is asked for.
func (s *Store) openStream(ctx context.Context, want js.StreamConfig) (js.StreamConfig, error) {
	for try := 0; ; try++ {
		got, err := s.tryStream(ctx, want)
		if err == nil {
			return got, nil
		}
		if !mayYetBe(err) {
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

func (s *Store) tryStream(ctx context.Context, want js.StreamConfig) (js.StreamConfig, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second) // making a raft group takes its time
	defer cancel()
	stream, err := s.js.Stream(ctx, want.Name)
	if errors.Is(err, js.ErrStreamNotFound) {
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
