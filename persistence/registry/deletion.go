package registry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"lorikeet/messages"
	v3 "lorikeet/messages/v3"
)

// DeleteApplication deletes it with all that is in it, itself last: if it fails half-way, it can be called again. Writers in
// the application wait for it and then find no application. Every document that is deleted is announced; application_not_found.
func (r *Registry) DeleteApplication(ctx context.Context, id string) error {
	if err := r.need(ctx, id); err != nil {
		return err
	}
	a, _ := r.index.application(id)
	if a == nil {
		return applicationNotFound(id)
	}
	a.Lock()
	defer a.Unlock()
	if now, _ := r.index.application(id); now != a {
		return applicationNotFound(id)
	}
	if r.follow != nil {
		if err := r.markDeleting(ctx, id); err != nil {
			return err
		}
	}
	for _, step := range []func(context.Context, string) error{r.eraseListed, r.eraseSettings, r.eraseKeys, r.eraseApplication} {
		if err := step(ctx, id); errors.Is(err, applicationNotFound(id)) { // another node deleted it at the same time
			return err
		} else if err != nil {
			return fmt.Errorf("delete application %s: %w", id, err)
		}
	}
	return nil
}

// markDeleting tells all nodes that the application is being deleted. What they have made in it before is found by this node from then on, and
// what they make in it later they take back themselves (see confirm).
func (r *Registry) markDeleting(ctx context.Context, id string) error {
	_, err := retry(ctx, func() (struct{}, error) {
		doc, err := r.store.GetDocument(ctx, messages.KindApplication, id)
		if errors.Is(err, messages.ErrNotFound) {
			return struct{}{}, applicationNotFound(id)
		}
		if err != nil {
			return struct{}{}, fmt.Errorf("read application %s: %w", id, err)
		}
		record, err := decode[applicationRecord](doc)
		if err != nil { // damaged: nothing of it is needed
			record.IDs.ApplicationID = id
		}
		record.Deleting = true
		value, err := encode(record)
		if err != nil {
			return struct{}{}, err
		}
		return struct{}{}, r.put(ctx, []messages.Write{{Kind: messages.KindApplication, ID: id, Value: value, Expect: true, Revision: doc.Revision}})
	})
	return err
}

func (r *Registry) eraseListed(ctx context.Context, id string) error {
	for _, kind := range []messages.Kind{messages.KindWebhook, messages.KindPubSub, messages.KindMQTTSession, messages.KindDevice} {
		for more := true; more; {
			_, err := retry(ctx, func() (struct{}, error) {
				docs, err := r.store.ListDocuments(ctx, kind, id+".", "", pageSize)
				if err != nil {
					return struct{}{}, fmt.Errorf("list %s: %w", kind, err)
				}
				more = len(docs) == pageSize
				return struct{}{}, r.erase(ctx, id, docs)
			})
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// eraseSettings deletes what an application has one of.
func (r *Registry) eraseSettings(ctx context.Context, id string) error {
	_, err := retry(ctx, func() (struct{}, error) {
		var docs []messages.Document
		for _, kind := range []messages.Kind{messages.KindLink, messages.KindActivation} {
			doc, err := r.store.GetDocument(ctx, kind, id)
			switch {
			case errors.Is(err, messages.ErrNotFound):
			case err != nil:
				return struct{}{}, err
			default:
				docs = append(docs, doc)
			}
		}
		return struct{}{}, r.erase(ctx, id, docs)
	})
	return err
}

// eraseKeys finds them in memory, which knows of all that were made before the application was marked.
func (r *Registry) eraseKeys(ctx context.Context, id string) error {
	for keys := range slices.Chunk(r.keysOf(id), pageSize) {
		var docs []messages.Document
		for _, key := range keys {
			docs = append(docs, messages.Document{Kind: messages.KindAPIKey, ID: key.ID})
		}
		if _, err := retry(ctx, func() (struct{}, error) { return struct{}{}, r.erase(ctx, id, docs) }); err != nil {
			return err
		}
	}
	return nil
}

func (r *Registry) eraseApplication(ctx context.Context, id string) error {
	_, err := retry(ctx, func() (struct{}, error) {
		doc, err := r.doomed(ctx, id)
		if err != nil {
			return struct{}{}, err
		}
		return struct{}{}, r.put(ctx, []messages.Write{{Kind: messages.KindApplication, ID: id, Expect: true, Revision: doc.Revision}})
	})
	return err
}

// doomed reads the application that is being deleted: application_not_found if another node was faster, even if it was made again since.
func (r *Registry) doomed(ctx context.Context, id string) (messages.Document, error) {
	doc, err := r.store.GetDocument(ctx, messages.KindApplication, id)
	if errors.Is(err, messages.ErrNotFound) {
		return doc, applicationNotFound(id)
	}
	if err != nil || r.follow == nil {
		return doc, err
	}
	if record, err := decode[applicationRecord](doc); err != nil || !record.Deleting {
		return doc, applicationNotFound(id)
	}
	return doc, nil
}

// erase deletes documents of an application that the caller has locked, in one step, with what follows from them. ErrConflict if one was changed
// since it was read.
func (r *Registry) erase(ctx context.Context, application string, docs []messages.Document) error {
	if err := ctx.Err(); err != nil || len(docs) == 0 {
		return err
	}
	writes := make([]messages.Write, 0, 2*len(docs)+1)
	for _, doc := range docs {
		writes = append(writes, messages.Write{Kind: doc.Kind, ID: doc.ID, Expect: doc.Revision != 0, Revision: doc.Revision})
		if doc.Kind != messages.KindDevice {
			continue
		}
		device, err := decode[v3.EndDevice](doc)
		if err != nil {
			r.log.LogAttrs(ctx, slog.LevelWarn, "damaged device deleted", slog.String("device", doc.ID))
		} else if pair, ok := pairOf(device); ok {
			writes = append(writes, messages.Write{Kind: messages.KindDeviceEUI, ID: pair.id()})
		}
	}
	if r.follow != nil { // the mark is written again, to be sure that it is still there
		doc, err := r.doomed(ctx, application)
		if err != nil {
			return err
		}
		writes = append(writes, messages.Write{Kind: messages.KindApplication, ID: application, Value: doc.Value, Expect: true, Revision: doc.Revision})
	}
	return r.put(ctx, writes)
}
