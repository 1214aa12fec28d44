package registry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"

	"lorikeet/messages"
)

// maxDocument is a bound for what one entity may hold in all its free-form members together.
const maxDocument = 2 << 20

const pageSize = 256

func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false) // scripts are full of < and >
	if err := e.Encode(v); err != nil {
		return nil, messages.Invalid("invalid_body", "can't be written as JSON: %v", err)
	}
	if b.Len() > maxDocument {
		return nil, messages.Invalid("too_large", "%d bytes in all: use at most %d", b.Len(), maxDocument)
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// decode leaves out the cause: it may quote the document, and that holds secrets.
func decode[T any](doc messages.Document) (v T, err error) {
	if json.Unmarshal(doc.Value, &v) != nil {
		var zero T
		return zero, fmt.Errorf("the stored document %s %s is damaged: delete and create it again, or restore a backup", doc.Kind, doc.ID)
	}
	return v, nil
}

// get gives notFound if there is no document.
func get[T any](ctx context.Context, r *Registry, kind messages.Kind, id string, notFound error) (v T, err error) {
	doc, err := r.store.GetDocument(ctx, kind, id)
	switch {
	case errors.Is(err, messages.ErrNotFound):
		return v, notFound
	case err != nil:
		return v, fmt.Errorf("read %s %s: %w", kind, id, err)
	}
	return decode[T](doc)
}

// list gives the entities in id order. A damaged document is logged and left out, so that it hides itself only.
func list[T any](ctx context.Context, r *Registry, kind messages.Kind, prefix string) ([]T, error) {
	all := []T{}
	err := r.pages(ctx, kind, prefix, func(docs []messages.Document) error {
		for _, doc := range docs {
			v, err := decode[T](doc)
			if err != nil {
				r.log.LogAttrs(ctx, slog.LevelError, "document left out of a list", slog.Any("err", err))
				continue
			}
			all = append(all, v)
		}
		return nil
	})
	return all, err
}

func (r *Registry) pages(ctx context.Context, kind messages.Kind, prefix string, do func([]messages.Document) error) error {
	for after := ""; ; {
		docs, err := r.store.ListDocuments(ctx, kind, prefix, after, pageSize)
		if err != nil {
			return fmt.Errorf("list %s: %w", kind, err)
		}
		if err := do(docs); err != nil {
			return err
		}
		if len(docs) < pageSize {
			return nil
		}
		after = docs[len(docs)-1].ID
	}
}

// edit is one read, change and compare-and-set of a document.
type edit[T any] struct {
	place
	// change is the intention: found says whether there is a document. It runs again after a conflict.
	change func(found bool, v *T) error
	// settle puts back what can't change, normalizes and validates.
	settle func(old T, v *T) error
	// also says what else is to be written in the same step. May be nil.
	also func(ctx context.Context, old, v T) ([]messages.Write, error)
}

// run answers with what a later read gives.
func (e edit[T]) run(ctx context.Context, r *Registry) (T, error) {
	return retry(ctx, func() (result T, err error) {
		doc, err := r.store.GetDocument(ctx, e.kind, e.id)
		found := err == nil
		if err != nil && !errors.Is(err, messages.ErrNotFound) {
			return result, fmt.Errorf("read %s %s: %w", e.kind, e.id, err)
		}
		var old, v, zero T
		if found { // twice, because change may write through the maps and pointers of v
			if old, err = decode[T](doc); err != nil {
				return zero, err
			}
			if v, err = decode[T](doc); err != nil {
				return zero, err
			}
		}
		if err := e.change(found, &v); err != nil {
			return zero, err
		}
		if err := e.settle(old, &v); err != nil {
			return zero, err
		}
		value, err := encode(v)
		if err != nil {
			return zero, err
		}
		stored := messages.Document{Kind: e.kind, ID: e.id, Value: value}
		writes := []messages.Write{{Kind: e.kind, ID: e.id, Value: value, Expect: true, Revision: doc.Revision}}
		if e.also != nil {
			also, err := e.also(ctx, old, v)
			if err != nil {
				return zero, err
			}
			writes = append(writes, also...)
		}
		if err := r.write(ctx, e.place, writes); err != nil {
			return zero, err
		}
		return decode[T](stored)
	})
}

// remove deletes a document; notFound if there is none.
func (r *Registry) remove(ctx context.Context, at place, notFound error) error {
	_, err := retry(ctx, func() (struct{}, error) {
		doc, err := r.store.GetDocument(ctx, at.kind, at.id)
		switch {
		case errors.Is(err, messages.ErrNotFound):
			return struct{}{}, notFound
		case err != nil:
			return struct{}{}, fmt.Errorf("read %s %s: %w", at.kind, at.id, err)
		}
		return struct{}{}, r.write(ctx, at, []messages.Write{{Kind: at.kind, ID: at.id, Expect: true, Revision: doc.Revision}})
	})
	return err
}

// creating is the change of a creation: taken if there is a document already.
func creating[T any](v T, taken error) func(bool, *T) error {
	return func(found bool, to *T) error {
		if found {
			return taken
		}
		*to = v
		return nil
	}
}

// updating is the change of an update: notFound if there is no document.
func updating[T any](change func(*T) error, notFound error) func(bool, *T) error {
	return func(found bool, v *T) error {
		if !found {
			return notFound
		}
		return change(v)
	}
}

func taken(name, format string, args ...any) error {
	return messages.Errorf(messages.CodeConflict, name, format, args...)
}
