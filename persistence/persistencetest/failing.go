package persistencetest

import (
	"context"
	"sync"

	"lorikeet/messages"
)

// ErrInjected is what a Failing store gives when it fails.
var ErrInjected = messages.Errorf(messages.CodeUnavailable, "injected", "failure injected by a test")

// Failing is a store of which one call fails, counted over all calls that can. Run a test for n = 1, 2, 3 … until Failed is false:
// then it has failed at every place.
type Failing struct {
	Store
	mu     sync.Mutex
	n      int
	after  bool
	failed bool
}

// NewFailing makes the n-th call fail. With after the call has its effect and only the answer is lost, as with a time-out; without, nothing is done.
func NewFailing(s Store, n int, after bool) *Failing { return &Failing{Store: s, n: n, after: after} }

// Failed says whether a call has failed.
func (f *Failing) Failed() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.failed
}

// call does a call, or not, and says how it went.
func (f *Failing) call(do func() error) error {
	f.mu.Lock()
	f.n--
	fail := f.n == 0
	f.failed = f.failed || fail
	f.mu.Unlock()
	if fail && !f.after {
		return ErrInjected
	}
	err := do()
	if fail {
		return ErrInjected
	}
	return err
}

func (f *Failing) LoadSession(ctx context.Context, id messages.DeviceID) (session []byte, rev messages.Revision, err error) {
	if err = f.call(func() (err error) { session, rev, err = f.Store.LoadSession(ctx, id); return err }); err != nil {
		return nil, 0, err
	}
	return session, rev, nil
}

func (f *Failing) Commit(ctx context.Context, c messages.Commit) (rev messages.Revision, err error) {
	if err = f.call(func() (err error) { rev, err = f.Store.Commit(ctx, c); return err }); err != nil {
		return 0, err
	}
	return rev, nil
}

func (f *Failing) DeleteSession(ctx context.Context, id messages.DeviceID) error {
	return f.call(func() error { return f.Store.DeleteSession(ctx, id) })
}

func (f *Failing) ScanSessions(ctx context.Context, do func(messages.DeviceID, []byte, messages.Revision) error) error {
	return f.call(func() error { return f.Store.ScanSessions(ctx, do) })
}

func (f *Failing) GetDocument(ctx context.Context, kind messages.Kind, id string) (d messages.Document, err error) {
	if err = f.call(func() (err error) { d, err = f.Store.GetDocument(ctx, kind, id); return err }); err != nil {
		return messages.Document{}, err
	}
	return d, nil
}

func (f *Failing) ListDocuments(ctx context.Context, kind messages.Kind, prefix, after string, limit int) (docs []messages.Document, err error) {
	if err = f.call(func() (err error) {
		docs, err = f.Store.ListDocuments(ctx, kind, prefix, after, limit)
		return err
	}); err != nil {
		return nil, err
	}
	return docs, nil
}

func (f *Failing) ScanDocuments(ctx context.Context, kind messages.Kind, do func(messages.Document) error) error {
	return f.call(func() error { return f.Store.ScanDocuments(ctx, kind, do) })
}

func (f *Failing) WriteDocuments(ctx context.Context, writes []messages.Write) error {
	return f.call(func() error { return f.Store.WriteDocuments(ctx, writes) })
}

func (f *Failing) ReadLog(ctx context.Context, app string, after uint64, max int) (entries []messages.LogEntry, err error) {
	if err = f.call(func() (err error) { entries, err = f.Store.ReadLog(ctx, app, after, max); return err }); err != nil {
		return nil, err
	}
	return entries, nil
}

func (f *Failing) LogRange(ctx context.Context, app string) (first, last uint64, err error) {
	if err = f.call(func() (err error) { first, last, err = f.Store.LogRange(ctx, app); return err }); err != nil {
		return 0, 0, err
	}
	return first, last, nil
}

func (f *Failing) CountLog(ctx context.Context, app string, after, upTo uint64) (n uint64, err error) {
	if err = f.call(func() (err error) { n, err = f.Store.CountLog(ctx, app, after, upTo); return err }); err != nil {
		return 0, err
	}
	return n, nil
}

func (f *Failing) LoadCursor(ctx context.Context, name string) (seq uint64, ok bool, err error) {
	if err = f.call(func() (err error) { seq, ok, err = f.Store.LoadCursor(ctx, name); return err }); err != nil {
		return 0, false, err
	}
	return seq, ok, nil
}

func (f *Failing) SaveCursor(ctx context.Context, name string, seq uint64) error {
	return f.call(func() error { return f.Store.SaveCursor(ctx, name, seq) })
}

func (f *Failing) DeleteCursor(ctx context.Context, name string) error {
	return f.call(func() error { return f.Store.DeleteCursor(ctx, name) })
}

func (f *Failing) DeleteApplication(ctx context.Context, app string) error {
	return f.call(func() error { return f.Store.DeleteApplication(ctx, app) })
}
