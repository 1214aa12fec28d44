package registry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"lorikeet/messages"
	v3 "lorikeet/messages/v3"
)

func applicationNotFound(id string) error {
	return messages.NotFound("application_not_found", "application %q not found", shorten(id))
}

// Applications gives all, sorted by id.
func (r *Registry) Applications(ctx context.Context) ([]v3.Application, error) {
	return list[v3.Application](ctx, r, messages.KindApplication, "")
}

// Application gives one; application_not_found.
func (r *Registry) Application(ctx context.Context, id string) (v3.Application, error) {
	return get[v3.Application](ctx, r, messages.KindApplication, id, applicationNotFound(id))
}

// ApplicationExists asks memory only.
func (r *Registry) ApplicationExists(id string) bool { return r.index.application(id) != nil }

// CreateApplication gives what was stored; id_taken.
func (r *Registry) CreateApplication(ctx context.Context, app v3.Application) (v3.Application, error) {
	id := app.IDs.ApplicationID
	if err := messages.ValidateID(id); err != nil {
		return v3.Application{}, err
	}
	e := r.editApplication(id, creating(app, taken("id_taken", "there is an application %q already: choose another id", id)))
	e.index = func(context.Context, v3.Application, v3.Application) ([]messages.Write, func(), error) {
		return nil, func() { r.index.applications[id] = &application{} }, nil
	}
	return e.run(ctx, r)
}

// UpdateApplication changes one by compare-and-set: change may run more than once. ids and created_at stay; application_not_found.
func (r *Registry) UpdateApplication(ctx context.Context, id string, change func(*v3.Application) error) (v3.Application, error) {
	e := r.editApplication(id, updating(change, applicationNotFound(id)))
	e.application = id
	return e.run(ctx, r)
}

func (r *Registry) editApplication(id string, change func(bool, *v3.Application) error) edit[v3.Application] {
	return edit[v3.Application]{
		place:  place{kind: messages.KindApplication, id: id},
		change: change,
		settle: func(old v3.Application, v *v3.Application) error {
			if err := keepID("ids.application_id", &v.IDs.ApplicationID, id); err != nil {
				return err
			}
			v.CreatedAt, v.UpdatedAt = r.stamps(old.CreatedAt)
			return validateApplication(v)
		},
	}
}

// DeleteApplication deletes it with all that is in it, itself last: if it fails half-way, it can be called again. Writers in
// the application wait for it and then find no application. Every document that is deleted is announced.
func (r *Registry) DeleteApplication(ctx context.Context, id string) error {
	a := r.index.application(id)
	if a == nil {
		return applicationNotFound(id)
	}
	a.Lock()
	defer a.Unlock()
	if a.deleted {
		return applicationNotFound(id)
	}
	for _, kind := range []messages.Kind{messages.KindWebhook, messages.KindPubSub, messages.KindDevice} {
		err := r.pages(ctx, kind, id+".", func(docs []messages.Document) error { return r.erase(ctx, docs) })
		if err != nil {
			return fmt.Errorf("delete application %s: %w", id, err)
		}
	}
	var last []messages.Document
	if link, err := r.store.GetDocument(ctx, messages.KindLink, id); err == nil {
		last = append(last, link)
	} else if !errors.Is(err, messages.ErrNotFound) {
		return fmt.Errorf("delete application %s: %w", id, err)
	}
	for _, key := range r.keysOf(id) {
		last = append(last, messages.Document{Kind: messages.KindAPIKey, ID: key.ID})
	}
	if err := r.erase(ctx, last); err != nil {
		return fmt.Errorf("delete application %s: %w", id, err)
	}
	return r.write(ctx, place{kind: messages.KindApplication, id: id}, []messages.Write{{Kind: messages.KindApplication, ID: id}}, func() {
		a.deleted = true
		delete(r.index.applications, id)
	})
}

// erase deletes documents of an application that the caller has locked, in one step, with what follows from them.
func (r *Registry) erase(ctx context.Context, docs []messages.Document) error {
	if err := ctx.Err(); err != nil || len(docs) == 0 {
		return err
	}
	writes := make([]messages.Write, 0, 2*len(docs))
	changes := make([]messages.Change, len(docs))
	pairs := map[euiPair]string{}
	for i, doc := range docs {
		writes = append(writes, messages.Write{Kind: doc.Kind, ID: doc.ID})
		changes[i] = messages.Change{Kind: doc.Kind, ID: doc.ID, Deleted: true}
		if doc.Kind != messages.KindDevice {
			continue
		}
		device, err := decode[v3.EndDevice](doc)
		if err != nil {
			r.log.LogAttrs(ctx, slog.LevelWarn, "damaged device deleted", slog.String("device", doc.ID))
		} else if pair, ok := pairOf(device); ok {
			writes = append(writes, messages.Write{Kind: messages.KindDeviceEUI, ID: pair.id()})
			pairs[pair] = doc.ID
		}
	}
	if err := r.commit(ctx, writes); err != nil {
		return err
	}
	r.index.change(func() {
		for pair, uid := range pairs {
			r.index.dropDevice(pair, uid)
		}
		for _, doc := range docs {
			if doc.Kind == messages.KindAPIKey {
				delete(r.index.keys, doc.ID)
			}
		}
	})
	r.emit(changes...)
	return nil
}
