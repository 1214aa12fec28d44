package main

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"lorikeet/messages"
	v3 "lorikeet/messages/v3"
)

type fakeLinks struct {
	mu    sync.Mutex
	links map[string]v3.Link
	err   error
}

func (f *fakeLinks) change(how func(f *fakeLinks)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	how(f)
}

func (f *fakeLinks) Applications(context.Context) ([]v3.Application, error) {
	var a v3.Application
	a.IDs.ApplicationID = "app"
	return []v3.Application{a}, nil
}

func (f *fakeLinks) Link(_ context.Context, app string) (v3.Link, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil {
		return v3.Link{}, f.err
	}
	link, ok := f.links[app]
	if !ok {
		return v3.Link{}, messages.NotFound("application_not_found", "no %s", app)
	}
	return link, nil
}

type fakeKeeper map[string]messages.Retention

func (f fakeKeeper) SetRetention(app string, r messages.Retention) { f[app] = r }

// The store hears of each change of a link, also if it could not be read at first.
func TestTheStoreHearsOfRetentions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		links, store := &fakeLinks{links: map[string]v3.Link{"app": {}}}, fakeKeeper{}
		r := startRetentions(links, store, slog.New(slog.DiscardHandler))
		defer r.stop()
		if err := r.readAll(t.Context()); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if _, ok := store["app"]; !ok {
			t.Error("the application was not looked at")
		}
		links.change(func(f *fakeLinks) {
			f.links["app"] = v3.Link{Retention: &v3.Retention{MaxAge: v3.Duration(time.Hour), MaxEvents: 7}}
			f.err = errors.New("the store is away")
		})
		r.changed(messages.Change{Kind: messages.KindLink, ID: "app"})
		synctest.Wait()
		links.change(func(f *fakeLinks) { f.err = nil })
		time.Sleep(2 * retentionRetry) // in the bubble
		synctest.Wait()
		if want := (messages.Retention{MaxAge: time.Hour, MaxEvents: 7}); store["app"] != want {
			t.Errorf("retention is %+v", store["app"])
		}
		links.change(func(f *fakeLinks) { delete(f.links, "app") })
		r.changed(messages.Change{Kind: messages.KindLink, ID: "app", Deleted: true})
		synctest.Wait()
		if store["app"] != (messages.Retention{}) {
			t.Errorf("after the deletion retention is %+v", store["app"])
		}
	})
}
