package registry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"lorikeet/messages"
	v3 "lorikeet/messages/v3"
)

// firstKeyID is the document that names the admin key which a server made by itself. It is written with the key, so that of several nodes that
// start at once one makes it.
const firstKeyID = "first-admin-key"

// errAsItIs ends an edit that would change nothing.
var errAsItIs = errors.New("as it should be already")

// EnsureAdminKey sees to it that there is a way in. Without a preset it makes an admin key if there is no valid one, and gives it to be shown
// once. A preset may be any text; it replaces the one before, which stays valid until then (or until it is deleted as "preset").
func (r *Registry) EnsureAdminKey(ctx context.Context, preset string) (created string, err error) {
	if preset == "" {
		key, err := r.createKey(ctx, "", v3.APIKey{Name: "first admin key"}, r.firstKey)
		if err == errAsItIs {
			return "", nil
		}
		return key.Key, err
	}
	if len(preset) > maxKeyText {
		return "", messages.Invalid("invalid_admin_key", "the preset admin key has %d bytes: use at most %d", len(preset), maxKeyText)
	}
	if len(preset) < 16 {
		r.log.LogAttrs(ctx, slog.LevelWarn, "the preset admin key is short and can be guessed: use at least 16 characters")
	}
	_, err = r.editKey("", presetKeyID, func(found bool, k *keyRecord) error {
		if found && r.matches(*k, preset) {
			return errAsItIs
		}
		*k = keyRecord{APIKey: v3.APIKey{Name: "preset admin key"}, Hash: r.hash(preset)}
		return nil
	}).run(ctx, r)
	if err == errAsItIs {
		return "", nil
	}
	return "", err
}

// firstKey is what is written with the first admin key, or errAsItIs if there is a valid one. Of two nodes that come here at once one finds its
// write refused, comes again and finds the key of the other.
func (r *Registry) firstKey(ctx context.Context, id string) ([]messages.Write, error) {
	first, err := r.store.GetDocument(ctx, messages.KindServer, firstKeyID)
	if err != nil && !errors.Is(err, messages.ErrNotFound) {
		return nil, fmt.Errorf("read %s %s: %w", messages.KindServer, firstKeyID, err)
	}
	if err := r.catchUp(ctx); err != nil {
		return nil, err
	}
	for _, k := range r.keysOf("") {
		if r.valid(keyRecord{APIKey: k}) {
			return nil, errAsItIs
		}
	}
	return []messages.Write{{Kind: messages.KindServer, ID: firstKeyID, Value: []byte(id), Expect: true, Revision: first.Revision}}, nil
}
