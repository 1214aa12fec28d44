package registry

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"time"

	"lorikeet/messages"
)

// catchUp waits until memory has what was durable when it was called.
func (r *Registry) catchUp(ctx context.Context) error {
	if r.follow == nil {
		return nil
	}
	return r.follow.sync(ctx)
}

// glance is catchUp for those who have no time, and may be strangers.
func (r *Registry) glance(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	err := r.catchUp(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		return messages.Errorf(messages.CodeUnavailable, "registry_behind", "this node does not hear from the store: try again later")
	}
	return err
}

// need gives application_not_found if there is no such application. One that another node has made just now is there.
func (r *Registry) need(ctx context.Context, application string) error {
	if a, _ := r.index.application(application); a != nil {
		return nil
	}
	if err := r.catchUp(ctx); err != nil {
		return err
	}
	if a, _ := r.index.application(application); a == nil {
		return applicationNotFound(application)
	}
	return nil
}

// confirm looks whether the application was there when something new was written in it. If another node has begun to delete it, that node may
// have looked for its contents before: then the new document is taken back; application_not_found.
func (r *Registry) confirm(ctx context.Context, at place, writes []messages.Write) error {
	ctx = context.WithoutCancel(ctx)
	var doc messages.Document
	err := r.follow.insist(func(ctx context.Context) (err error) {
		doc, err = r.store.GetDocument(ctx, messages.KindApplication, at.application)
		return err
	})
	if err == nil {
		if record, err := decode[applicationRecord](doc); err != nil || !record.Deleting {
			return nil
		}
	} else if !errors.Is(err, messages.ErrNotFound) {
		return err
	}
	if err := r.follow.insist(func(ctx context.Context) error { return r.takeBack(ctx, writes) }); err != nil {
		r.log.LogAttrs(ctx, slog.LevelError, "a document is left in an application that was deleted: make the application again and delete it",
			slog.String("kind", string(at.kind)), slog.String("id", at.id), slog.Any("err", err))
		return err
	}
	if err := r.catchUp(ctx); err != nil {
		return err
	}
	return applicationDeleting(at.application)
}

// takeBack deletes a document if it is as it was written, with what was written beside it. ErrConflict if something is changed meanwhile. Who
// deletes a document deletes what belongs to it as well; hence nothing is left to do if it is another one now.
func (r *Registry) takeBack(ctx context.Context, writes []messages.Write) error {
	var back []messages.Write
	for i, w := range writes {
		doc, err := r.store.GetDocument(ctx, w.Kind, w.ID)
		if err != nil && !errors.Is(err, messages.ErrNotFound) {
			return err
		}
		switch mine := err == nil && bytes.Equal(doc.Value, w.Value); {
		case mine:
			back = append(back, messages.Write{Kind: w.Kind, ID: w.ID, Expect: true, Revision: doc.Revision})
		case i == 0:
			return nil
		}
	}
	return r.store.WriteDocuments(ctx, back)
}
