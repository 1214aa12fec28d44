package persistencetest

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"lorikeet/messages"
	"lorikeet/persistence/memory"
)

// Model runs random commands on a store and on the one in memory, and compares all that they give. open opens the store, which keeps
// its content from one open to the next; it is closed and opened again now and then.
func Model(t *testing.T, o Options, open func(t *testing.T) Store) {
	m := &model{Options: o, want: memory.New(), got: open(t)}
	var run atomic.Int64
	rapid.Check(t, func(rt *rapid.T) {
		// Every run has names of its own, so that all of them share one store.
		m.begin(fmt.Sprintf("r%d", run.Add(1)))
		rt.Repeat(map[string]func(*rapid.T){
			"":                  m.compare,
			"commit":            m.commit,
			"deleteSession":     m.deleteSession,
			"writeDocuments":    m.writeDocuments,
			"listDocuments":     m.listDocuments,
			"readLog":           m.readLog,
			"saveCursor":        m.saveCursor,
			"deleteCursor":      m.deleteCursor,
			"deleteApplication": m.deleteApplication,
			"reopen": func(rt *rapid.T) {
				if rapid.IntRange(0, 9).Draw(rt, "dice") > 0 {
					return
				}
				if err := m.got.Close(); err != nil {
					rt.Fatalf("close: %v", err)
				}
				m.got = open(t)
			},
		})
	})
	if err := m.got.Close(); err != nil {
		t.Error(err)
	}
}

type model struct {
	Options
	want, got Store
	apps      []string
	devices   []messages.DeviceID
	cursors   []string
	docs      []string
	kinds     []messages.Kind
	events    int
	// Revisions are the store's own affair: the same write has one of each store.
	sessionRevs map[messages.DeviceID][]revisions
	docRevs     map[string][]revisions // by kind and id: two documents of one change may have the same
}

type revisions struct{ want, got messages.Revision }

func (m *model) begin(name string) {
	m.apps = []string{name + "a", name + "b"}
	m.devices, m.cursors = nil, nil
	for _, app := range m.apps {
		m.devices = append(m.devices, device(app, "x"), device(app, "y"))
		m.cursors = append(m.cursors, app+"/1", app+"/2")
	}
	m.docs = []string{"a.1", "a.2", "a", "b", "b-1"}
	m.kinds = []messages.Kind{messages.Kind(name), messages.Kind(name + "k")}
	m.sessionRevs, m.docRevs = make(map[messages.DeviceID][]revisions), make(map[string][]revisions)
}

func class(err error) string {
	switch {
	case err == nil:
		return "ok"
	case errors.Is(err, messages.ErrConflict):
		return "conflict"
	case errors.Is(err, messages.ErrNotFound):
		return "not found"
	}
	return err.Error()
}

func same(t *rapid.T, what string, want, got error) bool {
	if class(want) != class(got) {
		t.Fatalf("%s: want %v, got %v", what, want, got)
	}
	return want == nil
}

func (m *model) commit(t *rapid.T) {
	d := rapid.SampledFrom(m.devices).Draw(t, "device")
	c := messages.Commit{Device: d}
	if rapid.Bool().Draw(t, "session") {
		c.Session = rapid.SliceOfN(rapid.Byte(), 0, 50).Draw(t, "bytes")
	}
	for range rapid.IntRange(0, 3).Draw(t, "events") {
		m.events++
		c.Events = append(c.Events, event(d, m.events))
	}
	rev := m.expected(t, d)
	cw, cg := c, c
	cw.Expected, cg.Expected = rev.want, rev.got
	wr, wantErr := m.want.Commit(t.Context(), cw)
	gr, gotErr := m.got.Commit(t.Context(), cg)
	if same(t, "commit", wantErr, gotErr) && c.Session != nil {
		m.sessionRevs[d] = append(m.sessionRevs[d], revisions{wr, gr})
	}
}

// expected gives the present revision of a session mostly, else any that it ever had: those of another device say nothing.
func (m *model) expected(t *rapid.T, d messages.DeviceID) revisions {
	if rapid.IntRange(0, 4).Draw(t, "stale") == 0 {
		return rapid.SampledFrom(append(m.sessionRevs[d], revisions{})).Draw(t, "revision")
	}
	_, w, err := m.want.LoadSession(t.Context(), d)
	_, g, err2 := m.got.LoadSession(t.Context(), d)
	if err := errors.Join(err, err2); err != nil {
		t.Fatal(err)
	}
	return revisions{w, g}
}

func (m *model) deleteSession(t *rapid.T) {
	d := rapid.SampledFrom(m.devices).Draw(t, "device")
	same(t, "delete session", m.want.DeleteSession(t.Context(), d), m.got.DeleteSession(t.Context(), d))
}

func (m *model) writeDocuments(t *rapid.T) {
	var want, got []messages.Write
	for range rapid.IntRange(0, 4).Draw(t, "writes") {
		w := messages.Write{Kind: rapid.SampledFrom(m.kinds).Draw(t, "kind"), ID: rapid.SampledFrom(m.docs).Draw(t, "id")}
		if rapid.IntRange(0, 2).Draw(t, "delete") > 0 {
			w.Value = rapid.SliceOfN(rapid.Byte(), 0, 20).Draw(t, "value")
		}
		w.Expect = rapid.Bool().Draw(t, "expect")
		g := w
		rev := rapid.SampledFrom(append(m.docRevs[string(w.Kind)+"/"+w.ID], revisions{})).Draw(t, "revision")
		if rapid.Bool().Draw(t, "present") {
			dw, _ := m.want.GetDocument(t.Context(), w.Kind, w.ID)
			dg, _ := m.got.GetDocument(t.Context(), w.Kind, w.ID)
			rev = revisions{dw.Revision, dg.Revision}
		}
		w.Revision, g.Revision = rev.want, rev.got
		want, got = append(want, w), append(got, g)
	}
	same(t, "write documents", m.want.WriteDocuments(t.Context(), want), m.got.WriteDocuments(t.Context(), got))
	for _, w := range want {
		dw, _ := m.want.GetDocument(t.Context(), w.Kind, w.ID)
		dg, _ := m.got.GetDocument(t.Context(), w.Kind, w.ID)
		key := string(w.Kind) + "/" + w.ID
		m.docRevs[key] = append(m.docRevs[key], revisions{dw.Revision, dg.Revision})
	}
}

func (m *model) listDocuments(t *rapid.T) {
	kind := rapid.SampledFrom(m.kinds).Draw(t, "kind")
	prefix := rapid.SampledFrom([]string{"", "a", "a.", "b", "c"}).Draw(t, "prefix")
	after := rapid.SampledFrom([]string{"", "a", "a.1", "a.15", "b", "c"}).Draw(t, "after")
	limit := rapid.IntRange(0, 3).Draw(t, "limit")
	want, wantErr := m.want.ListDocuments(t.Context(), kind, prefix, after, limit)
	got, gotErr := m.got.ListDocuments(t.Context(), kind, prefix, after, limit)
	same(t, "list documents", wantErr, gotErr)
	sameDocuments(t, want, got)
}

func sameDocuments(t *rapid.T, want, got []messages.Document) {
	text := func(docs []messages.Document) (all []string) {
		for _, d := range docs {
			all = append(all, fmt.Sprintf("%s %s %x", d.Kind, d.ID, d.Value))
		}
		return all
	}
	if d := cmp.Diff(text(want), text(got)); d != "" {
		t.Fatalf("documents: %s", d)
	}
}

func (m *model) readLog(t *rapid.T) {
	app := rapid.SampledFrom(m.apps).Draw(t, "app")
	_, last, err := m.want.LogRange(t.Context(), app)
	if err != nil {
		t.Fatal(err)
	}
	after := rapid.Uint64Range(0, last+2).Draw(t, "after")
	most := rapid.IntRange(0, 5).Draw(t, "max")
	want, wantErr := m.want.ReadLog(t.Context(), app, after, most)
	got, gotErr := m.got.ReadLog(t.Context(), app, m.place(t, app, after), most)
	same(t, "read log", wantErr, gotErr)
	if d := cmp.Diff(m.comparable(want), m.comparable(got)); d != "" {
		t.Fatalf("log after %d: %s", after, d)
	}
	upTo := rapid.Uint64Range(0, last+2).Draw(t, "up to")
	wantN, wantErr := m.want.CountLog(t.Context(), app, after, upTo)
	gotN, gotErr := m.got.CountLog(t.Context(), app, m.place(t, app, after), m.place(t, app, upTo))
	if same(t, "count log", wantErr, gotErr); wantN != gotN {
		t.Fatalf("%d entries between %d and %d, want %d", gotN, after, upTo, wantN)
	}
}

// place gives the Seq in the store for a Seq of the model: the entry in the same place of the log.
func (m *model) place(t *rapid.T, app string, seq uint64) uint64 {
	first, _, err := m.want.LogRange(t.Context(), app)
	if err != nil {
		t.Fatal(err)
	}
	if m.Dense || seq < first {
		return seq
	}
	all := m.whole(t, app)
	if i := seq - first; i < uint64(len(all)) {
		return all[i].Seq
	}
	return math.MaxInt64
}

// whole reads a log of the store.
func (m *model) whole(t *rapid.T, app string) (all []messages.LogEntry) {
	for after := uint64(0); ; after = all[len(all)-1].Seq {
		entries, err := m.got.ReadLog(t.Context(), app, after, 0)
		if err != nil {
			t.Fatal(err)
		}
		if len(entries) == 0 {
			return all
		}
		all = append(all, entries...)
	}
}

// comparable leaves out what is not the same in every store.
func (m *model) comparable(entries []messages.LogEntry) []messages.LogEntry {
	if m.Dense {
		return entries
	}
	out := slices.Clone(entries)
	for i := range out {
		out[i].Seq = 0
	}
	return out
}

func (m *model) saveCursor(t *rapid.T) {
	name, seq := rapid.SampledFrom(m.cursors).Draw(t, "cursor"), rapid.Uint64().Draw(t, "seq")
	same(t, "save cursor", m.want.SaveCursor(t.Context(), name, seq), m.got.SaveCursor(t.Context(), name, seq))
}

func (m *model) deleteCursor(t *rapid.T) {
	name := rapid.SampledFrom(m.cursors).Draw(t, "cursor")
	same(t, "delete cursor", m.want.DeleteCursor(t.Context(), name), m.got.DeleteCursor(t.Context(), name))
}

func (m *model) deleteApplication(t *rapid.T) {
	app := rapid.SampledFrom(m.apps).Draw(t, "app")
	same(t, "delete application", m.want.DeleteApplication(t.Context(), app), m.got.DeleteApplication(t.Context(), app))
}

// compare looks at everything that this run has written.
func (m *model) compare(t *rapid.T) {
	for _, app := range m.apps {
		wf, wl, wantErr := m.want.LogRange(t.Context(), app)
		gf, gl, gotErr := m.got.LogRange(t.Context(), app)
		same(t, "log range", wantErr, gotErr)
		if m.Dense && (wf != gf || wl != gl) {
			t.Fatalf("log of %s is %d to %d, want %d to %d", app, gf, gl, wf, wl)
		}
	}
	for _, name := range m.cursors {
		ws, wok, wantErr := m.want.LoadCursor(t.Context(), name)
		gs, gok, gotErr := m.got.LoadCursor(t.Context(), name)
		same(t, "load cursor", wantErr, gotErr)
		if ws != gs || wok != gok {
			t.Fatalf("cursor %s is %d %v, want %d %v", name, gs, gok, ws, wok)
		}
	}
	for _, kind := range m.kinds {
		want, wantErr := m.want.ListDocuments(t.Context(), kind, "", "", 0)
		got, gotErr := m.got.ListDocuments(t.Context(), kind, "", "", 0)
		same(t, "list documents", wantErr, gotErr)
		sameDocuments(t, want, got)
	}
	scan := func(s Store) (all []string) {
		err := s.ScanSessions(t.Context(), func(d messages.DeviceID, session []byte, _ messages.Revision) error {
			if strings.HasPrefix(d.ApplicationID, m.apps[0][:len(m.apps[0])-1]) {
				all = append(all, fmt.Sprintf("%s %x", d, session))
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return all
	}
	if d := cmp.Diff(scan(m.want), scan(m.got)); d != "" {
		t.Fatalf("sessions: %s", d)
	}
}
