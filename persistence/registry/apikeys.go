package registry

import (
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base32"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"lorikeet/messages"
	v3 "lorikeet/messages/v3"
)

const (
	keyPrefix   = "NNSXS" // of API keys in The Things Stack
	keyIDSize   = 24
	secretSize  = 32
	hashSize    = sha256.Size
	maxKeyText  = 256
	presetKeyID = "preset" // no id that is made here has lower-case letters
	pepperID    = "api-key-pepper"
)

var base32Text = base32.StdEncoding.WithPadding(base32.NoPadding)

// keyRecord is an API key as stored. Its secret is not: a slow hash would only help guessable secrets, and these are 256 random bits.
type keyRecord struct {
	ApplicationID string `json:"application_id,omitempty"` // "" for an admin key
	v3.APIKey
	Hash v3.Bytes `json:"hash,omitempty"` // HMAC-SHA-256(pepper, secret)
}

func (r *Registry) loadPepper(ctx context.Context) error {
	pepper, err := retry(ctx, func() (v3.Bytes, error) {
		doc, err := r.store.GetDocument(ctx, messages.KindServer, pepperID)
		if err == nil {
			return decode[v3.Bytes](doc)
		}
		if !errors.Is(err, messages.ErrNotFound) {
			return nil, err
		}
		fresh := make(v3.Bytes, 32)
		if err := r.random(fresh); err != nil {
			return nil, err
		}
		value, err := encode(fresh)
		if err != nil {
			return nil, err
		}
		return fresh, r.commit(ctx, []messages.Write{{Kind: messages.KindServer, ID: pepperID, Value: value, Expect: true}})
	})
	if err == nil && len(pepper) < 16 {
		err = fmt.Errorf("the stored document %s %s is damaged: restore a backup, or delete it and all API keys", messages.KindServer, pepperID)
	}
	if err != nil {
		return fmt.Errorf("load the pepper of API keys: %w", err)
	}
	r.pepper = pepper
	return nil
}

func (r *Registry) hash(secret string) []byte {
	h := hmac.New(sha256.New, r.pepper)
	h.Write([]byte(secret))
	return h.Sum(nil)
}

func unauthenticated() error {
	return messages.Errorf(messages.CodeUnauthenticated, "unauthenticated",
		"the API key is not valid: check that it is complete (NNSXS.….…), not deleted and not expired")
}

// Authorize says what an API key may do. It asks memory only, unless the key would be refused and another node may have made it just now. Unknown,
// wrong and expired keys get the same answer in the same time.
func (r *Registry) Authorize(ctx context.Context, key string) (messages.Access, error) {
	if key == "" || len(key) > maxKeyText {
		return messages.Access{}, unauthenticated()
	}
	record, ok := r.keyFor(key)
	if !ok && r.follow != nil {
		if err := r.glance(ctx); err != nil {
			return messages.Access{}, err
		}
		record, ok = r.keyFor(key)
	}
	if !ok {
		return messages.Access{}, unauthenticated()
	}
	return messages.Access{KeyID: record.ID, Admin: record.ApplicationID == "", ApplicationID: record.ApplicationID, Rights: slices.Clone(record.Rights)}, nil
}

// keyFor gives the valid API key that is written as key.
func (r *Registry) keyFor(key string) (keyRecord, bool) {
	var id, secret string
	if parts := strings.Split(key, "."); len(parts) == 3 && parts[0] == keyPrefix && parts[1] != presetKeyID {
		id, secret = parts[1], parts[2]
	}
	r.index.mutex.RLock()
	record, preset := r.index.keys[id], r.index.keys[presetKeyID]
	r.index.mutex.RUnlock()
	isKey, isPreset := r.matches(record, secret), r.matches(preset, key)
	if isPreset {
		record = preset
	}
	return record, (isKey || isPreset) && r.valid(record)
}

func (r *Registry) valid(k keyRecord) bool {
	return k.ExpiresAt == nil || r.clock().Before(*k.ExpiresAt)
}

// matches is false for the zero record, at the same cost.
func (r *Registry) matches(record keyRecord, secret string) bool {
	var want [hashSize]byte
	known := copy(want[:], record.Hash) == hashSize
	return subtle.ConstantTimeCompare(r.hash(secret), want[:]) == 1 && known
}

func keyNotFound(id string) error {
	return messages.NotFound("api_key_not_found", "API key %q not found", shorten(id))
}

// keysOf an application ("" for admin keys), sorted by time of creation. They have no secret.
func (r *Registry) keysOf(app string) []v3.APIKey {
	r.index.mutex.RLock()
	defer r.index.mutex.RUnlock()
	keys := []v3.APIKey{}
	for _, k := range r.index.keys {
		if k.ApplicationID == app {
			k.Rights = slices.Clone(k.Rights)
			keys = append(keys, k.APIKey)
		}
	}
	slices.SortFunc(keys, func(a, b v3.APIKey) int {
		return cmp.Or(orZero(a.CreatedAt).Compare(orZero(b.CreatedAt)), cmp.Compare(a.ID, b.ID))
	})
	return keys
}

func orZero(t *time.Time) (zero time.Time) {
	if t == nil {
		return zero
	}
	return *t
}

// APIKeys of an application, or the admin keys of the server for "", oldest first, never with a secret; application_not_found.
func (r *Registry) APIKeys(ctx context.Context, app string) ([]v3.APIKey, error) {
	if app != "" {
		if err := r.need(ctx, app); err != nil {
			return nil, err
		}
	}
	if err := r.catchUp(ctx); err != nil {
		return nil, err
	}
	return r.keysOf(app), nil
}

// APIKey gives one of an application, or an admin key for "", without its secret; api_key_not_found.
func (r *Registry) APIKey(ctx context.Context, app, id string) (v3.APIKey, error) {
	if err := r.catchUp(ctx); err != nil {
		return v3.APIKey{}, err
	}
	r.index.mutex.RLock()
	defer r.index.mutex.RUnlock()
	k, ok := r.index.keys[id]
	if !ok || k.ApplicationID != app {
		return v3.APIKey{}, keyNotFound(id)
	}
	k.Rights = slices.Clone(k.Rights)
	return k.APIKey, nil
}

// CreateAPIKey makes a key of an application, or an admin key for "". Only its answer has the key itself; application_not_found.
func (r *Registry) CreateAPIKey(ctx context.Context, app string, key v3.APIKey) (v3.APIKey, error) {
	if app != "" {
		if err := r.need(ctx, app); err != nil {
			return v3.APIKey{}, err
		}
	}
	if key.ExpiresAt != nil && !key.ExpiresAt.After(r.clock()) {
		return v3.APIKey{}, refuse("expires_at", "is in the past: use a later time, or leave it out for a key that does not expire")
	}
	return r.createKey(ctx, app, key, nil)
}

// createKey writes a new key, with what also says (which may be nil).
func (r *Registry) createKey(ctx context.Context, app string, key v3.APIKey, also func(ctx context.Context, id string) ([]messages.Write, error)) (v3.APIKey, error) {
	var random [keyIDSize + secretSize]byte
	if err := r.random(random[:]); err != nil {
		return v3.APIKey{}, err
	}
	id, secret := base32Text.EncodeToString(random[:keyIDSize]), base32Text.EncodeToString(random[keyIDSize:])
	record := keyRecord{ApplicationID: app, APIKey: key, Hash: r.hash(secret)}
	e := r.editKey(app, id, creating(record, taken("id_taken", "try again")))
	if also != nil {
		e.also = func(ctx context.Context, _, _ keyRecord) ([]messages.Write, error) { return also(ctx, id) }
	}
	stored, err := e.run(ctx, r)
	if err != nil {
		return v3.APIKey{}, err
	}
	stored.Key = keyPrefix + "." + id + "." + secret
	return stored.APIKey, nil
}

// UpdateAPIKey changes name, rights and expiry by compare-and-set: change may run more than once; api_key_not_found.
func (r *Registry) UpdateAPIKey(ctx context.Context, app, id string, change func(*v3.APIKey) error) (v3.APIKey, error) {
	if id == presetKeyID && app == "" {
		return v3.APIKey{}, messages.Errorf(messages.CodePrecondition, "preset_api_key", "this key is set where the server is started: change LORIKEET_ADMIN_KEY there")
	}
	record, err := r.editKey(app, id, func(found bool, k *keyRecord) error {
		if !found || k.ApplicationID != app {
			return keyNotFound(id)
		}
		return change(&k.APIKey)
	}).run(ctx, r)
	return record.APIKey, err
}

func (r *Registry) editKey(app, id string, change func(bool, *keyRecord) error) edit[keyRecord] {
	return edit[keyRecord]{
		place:  place{kind: messages.KindAPIKey, id: id, application: app},
		change: change,
		settle: func(old keyRecord, v *keyRecord) error {
			v.ID, v.Key = id, ""
			v.CreatedAt, v.UpdatedAt = r.stamps(old.CreatedAt)
			if app == "" {
				return validateAdminKey(&v.APIKey)
			}
			return validateApplicationKey(&v.APIKey)
		},
	}
}

// DeleteAPIKey makes the key useless at once; api_key_not_found.
func (r *Registry) DeleteAPIKey(ctx context.Context, app, id string) error {
	if _, err := r.APIKey(ctx, app, id); err != nil {
		return err
	}
	err := r.remove(ctx, place{kind: messages.KindAPIKey, id: id, application: app}, keyNotFound(id))
	if errors.Is(err, keyNotFound(id)) && r.follow == nil { // deleted by a write whose success was not told
		r.emit(r.apply(messages.Document{Kind: messages.KindAPIKey, ID: id}))
	}
	return err
}
