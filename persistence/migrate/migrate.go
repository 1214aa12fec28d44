// Package migrate copies all that one store holds to another, empty one: documents with their values as they are, sessions, the kept log of each
// application in its order, and the places of integrations, which are counted anew because logs are numbered by their store.
//
// The source is only read; no server may run on either store. A mark in the target says that it is not whole yet: Check refuses such a store, and
// Run begins anew on it. The mark is removed when everything has been read back and compared.
package migrate

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"lorikeet/messages"
)

// Source is what is read of a store.
type Source interface {
	GetDocument(ctx context.Context, kind messages.Kind, id string) (messages.Document, error)
	ScanDocuments(ctx context.Context, kind messages.Kind, do func(messages.Document) error) error
	ScanSessions(ctx context.Context, do func(messages.DeviceID, []byte, messages.Revision) error) error
	ReadLog(ctx context.Context, applicationID string, after uint64, max int) ([]messages.LogEntry, error)
	LogRange(ctx context.Context, applicationID string) (first, last uint64, err error)
	LoadCursor(ctx context.Context, name string) (uint64, bool, error)
}

// Target is what is written of one. Its retention must not remove anything meanwhile.
type Target interface {
	Source
	WriteDocuments(ctx context.Context, writes []messages.Write) error
	Commit(ctx context.Context, c messages.Commit) (messages.Revision, error)
	SaveCursor(ctx context.Context, name string, seq uint64) error
	DeleteSession(ctx context.Context, id messages.DeviceID) error
	DeleteApplication(ctx context.Context, applicationID string) error
}

// Options of Run. From, Now and Cursor are required.
type Options struct {
	From   string                                                  // where the source is, for the mark and for errors; without passwords
	Now    func() time.Time                                        // for the mark
	Cursor func(kind messages.Kind, application, id string) string // name of the cursor of a webhook, a pub/sub integration or an MQTT session
	// Session is told of each session that was copied, or removed (b is nil), for what the target keeps beside it; called by several goroutines. May be nil.
	Session  func(ctx context.Context, id messages.DeviceID, b []byte) error
	Progress func(part string, done int) // now and then, one call at a time; nil: nobody looks
}

// Report counts what was copied.
type Report struct {
	Documents map[messages.Kind]int
	Sessions  int
	Events    int
	Cursors   int
	Anew      bool // an earlier migration had not come to its end, and what it had written was removed
}

// migration is one run.
type migration struct {
	from Source
	to   Target
	Options
	mark messages.Document

	mutex  sync.Mutex // of what follows
	counts map[string]int
}

// Run copies everything and compares it. If it fails or is ended by ctx, it can be run again with the same source.
func Run(ctx context.Context, from Source, to Target, o Options) (Report, error) {
	m := &migration{from: from, to: to, Options: o, counts: map[string]int{}}
	anew, err := m.begin(ctx)
	if err != nil {
		return Report{}, err
	}
	report, err := m.copy(ctx)
	if err != nil {
		return Report{}, fmt.Errorf("%w (the target is not whole: run the same migration again, it begins anew)", err)
	}
	report.Anew = anew
	return report, nil
}

func (m *migration) copy(ctx context.Context) (report Report, err error) {
	report.Documents, err = m.copyDocuments(ctx)
	if err != nil {
		return report, err
	}
	if report.Sessions, err = m.copySessions(ctx); err != nil {
		return report, err
	}
	applications, err := applicationsOf(ctx, m.from)
	if err != nil {
		return report, err
	}
	cursors, err := m.cursors(ctx)
	if err != nil {
		return report, err
	}
	err = parallel(ctx, 8, sequence(applications), func(ctx context.Context, app string) error {
		if err := m.copyLog(ctx, app); err != nil {
			return fmt.Errorf("log of application %s: %w", app, err)
		}
		places, err := m.compareLog(ctx, app, cursors[app])
		if err != nil {
			return fmt.Errorf("log of application %s: %w", app, err)
		}
		for name, seq := range places {
			if err := m.to.SaveCursor(ctx, name, seq); err != nil {
				return fmt.Errorf("cursor %s: %w", name, err)
			}
			m.count("cursors", 1)
		}
		return nil
	})
	if err != nil {
		return report, err
	}
	report.Events, report.Cursors = m.counts["events"], m.counts["cursors"]
	if err := m.compare(ctx); err != nil {
		return report, err
	}
	return report, m.finish(ctx)
}

// count adds to what Progress shows.
func (m *migration) count(part string, n int) {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	m.counts[part] += n
	if m.Progress != nil {
		m.Progress(part, m.counts[part])
	}
}

const (
	batchCount = 200
	batchBytes = 256 << 10 // then a batch is written; one record more may be in it
)

func (m *migration) copyDocuments(ctx context.Context) (map[messages.Kind]int, error) {
	counts := map[messages.Kind]int{}
	for _, kind := range messages.Kinds {
		var batch []messages.Write
		size := 0
		flush := func() error {
			if err := m.to.WriteDocuments(ctx, batch); err != nil {
				return inUse(fmt.Errorf("write %s documents: %w", kind, err))
			}
			counts[kind] += len(batch)
			m.count("documents", len(batch))
			batch, size = nil, 0
			return nil
		}
		err := m.from.ScanDocuments(ctx, kind, func(doc messages.Document) error {
			batch = append(batch, messages.Write{Kind: kind, ID: doc.ID, Value: doc.Value, Expect: true})
			if size += len(doc.Value); len(batch) < batchCount && size < batchBytes {
				return nil
			}
			return flush()
		})
		if err == nil && len(batch) > 0 {
			err = flush()
		}
		if err != nil {
			return nil, fmt.Errorf("copy documents: %w", err)
		}
	}
	return counts, nil
}

type session struct {
	device messages.DeviceID
	record []byte
}

func (m *migration) copySessions(ctx context.Context) (int, error) {
	err := parallel(ctx, 64, func(ctx context.Context, put func(session) error) error {
		return m.from.ScanSessions(ctx, func(id messages.DeviceID, record []byte, _ messages.Revision) error { return put(session{id, record}) })
	}, func(ctx context.Context, s session) error {
		if _, err := m.to.Commit(ctx, messages.Commit{Device: s.device, Session: s.record}); err != nil {
			return inUse(fmt.Errorf("copy session of %s: %w", s.device.UID(), err))
		}
		if err := m.tell(ctx, s.device, s.record); err != nil {
			return err
		}
		m.count("sessions", 1)
		return nil
	})
	return m.counts["sessions"], err
}

// inUse says what a conflict means here.
func inUse(err error) error {
	if errors.Is(err, messages.ErrConflict) {
		return messages.Errorf(messages.CodePrecondition, "target_in_use", "someone else writes to the target: stop the servers that use it: %w", err)
	}
	return err
}

// applicationsOf gives those that are registered and those of sessions.
func applicationsOf(ctx context.Context, s Source) ([]string, error) {
	found := map[string]struct{}{}
	err := s.ScanDocuments(ctx, messages.KindApplication, func(doc messages.Document) error {
		found[doc.ID] = struct{}{}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list applications: %w", err)
	}
	err = s.ScanSessions(ctx, func(id messages.DeviceID, _ []byte, _ messages.Revision) error {
		found[id.ApplicationID] = struct{}{}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list sessions: %w", err)
	}
	return slices.Sorted(maps.Keys(found)), nil
}

// cursors gives the places of all integrations and MQTT sessions, by application and name.
func (m *migration) cursors(ctx context.Context) (map[string]map[string]uint64, error) {
	all := map[string]map[string]uint64{}
	for _, kind := range []messages.Kind{messages.KindWebhook, messages.KindPubSub, messages.KindMQTTSession} {
		var names [][2]string
		err := m.from.ScanDocuments(ctx, kind, func(doc messages.Document) error {
			if app, id, ok := strings.Cut(doc.ID, "."); ok {
				names = append(names, [2]string{app, m.Cursor(kind, app, id)})
			}
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("list %s documents: %w", kind, err)
		}
		for _, n := range names {
			seq, ok, err := m.from.LoadCursor(ctx, n[1])
			if err != nil {
				return nil, fmt.Errorf("cursor %s: %w", n[1], err)
			}
			if !ok {
				continue
			}
			if all[n[0]] == nil {
				all[n[0]] = map[string]uint64{}
			}
			all[n[0]][n[1]] = seq
		}
	}
	return all, nil
}

// parallel gives what produce puts to some workers, and ends at the first error.
func parallel[T any](ctx context.Context, workers int, produce func(ctx context.Context, put func(T) error) error, do func(context.Context, T) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	work := make(chan T)
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for v := range work {
				if err := do(ctx, v); err != nil {
					cancel(err)
					return
				}
			}
		})
	}
	err := produce(ctx, func(v T) error {
		select {
		case work <- v:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	})
	close(work)
	wg.Wait()
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

func (m *migration) tell(ctx context.Context, id messages.DeviceID, record []byte) error {
	if m.Session == nil {
		return nil
	}
	if err := m.Session(ctx, id, record); err != nil {
		return fmt.Errorf("session of %s: %w", id.UID(), err)
	}
	return nil
}

func sequence[T any](all []T) func(context.Context, func(T) error) error {
	return func(_ context.Context, put func(T) error) error {
		for _, v := range all {
			if err := put(v); err != nil {
				return err
			}
		}
		return nil
	}
}
