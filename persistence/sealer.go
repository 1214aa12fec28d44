package persistence

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"

	"lorikeet/messages"
)

// Secret says whether documents of this kind hold secrets and are sealed at rest. Session records always are, the log never.
func Secret(kind messages.Kind) bool {
	switch kind {
	case messages.KindDevice, messages.KindWebhook, messages.KindPubSub, messages.KindAPIKey, messages.KindLink, messages.KindServer, messages.KindActivation:
		return true
	}
	return false
}

// ErrSealed is in the chain of every error of Sealer.Open: the bytes were sealed under a key that is not at hand, for another record, or were changed.
var ErrSealed = errors.New("can't be opened with the key-encryption key at hand")

// Sealer encrypts and authenticates records with XAES-256-GCM (C2SP): AES-256-GCM with a 192-bit random nonce from which a key of its own is
// derived for every record. Plain AES-256-GCM allows 2³² records under one key, which a busy server writes within weeks; here there is no such limit.
//
// The name of the record is bound in as additional data, so that sealed bytes can't be moved to another record. A Sealer is safe for concurrent use.
type Sealer struct {
	current *wrapKey
	keys    map[keyID]*wrapKey
}

type keyID [8]byte

type wrapKey struct {
	id    keyID
	block cipher.Block
	k1    [aes.BlockSize]byte
}

const (
	sealVersion = 1
	nonceSize   = 24
	sealHeader  = 1 + len(keyID{}) + nonceSize

	// SealOverhead is how many bytes Seal adds.
	SealOverhead = sealHeader + 16
)

// NewSealer seals under the current key and opens what was sealed under it or under one of the older keys.
// To rotate, give the new key as current and the former one as older, until every record has been written again.
func NewSealer(current KEK, older ...KEK) *Sealer {
	s := &Sealer{current: newWrapKey(current), keys: make(map[keyID]*wrapKey)}
	for _, k := range older {
		w := newWrapKey(k)
		s.keys[w.id] = w
	}
	s.keys[s.current.id] = s.current
	return s
}

func newWrapKey(k KEK) *wrapKey {
	block, err := aes.NewCipher(k[:])
	if err != nil {
		panic(err) // only a wrong key length, and the array has the right one
	}
	w := &wrapKey{block: block}
	sum := sha256.Sum256(append([]byte("lorikeet key-encryption key id\x00"), k[:]...))
	copy(w.id[:], sum[:])
	// k1 is the CMAC subkey (NIST SP 800-38B): the encrypted zero block, doubled in GF(2¹²⁸).
	var l [aes.BlockSize]byte
	block.Encrypt(l[:], l[:])
	var carry byte
	for i := len(l) - 1; i >= 0; i-- {
		w.k1[i] = l[i]<<1 | carry
		carry = l[i] >> 7
	}
	w.k1[len(l)-1] ^= carry * 0b10000111
	return w
}

// aead derives the key that belongs to the first half of the nonce.
func (w *wrapKey) aead(nonce []byte) (cipher.AEAD, error) {
	var key [2 * aes.BlockSize]byte
	for i := range 2 {
		m := key[i*aes.BlockSize : (i+1)*aes.BlockSize]
		m[1], m[2] = byte(i+1), 'X'
		copy(m[4:], nonce[:12])
		for j := range m {
			m[j] ^= w.k1[j]
		}
		w.block.Encrypt(m, m)
	}
	block, err := aes.NewCipher(key[:])
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// KeyID names the current key in messages to the operator. It tells nothing about the key.
func (s *Sealer) KeyID() string { return hex.EncodeToString(s.current.id[:]) }

// Seal appends the sealed form of plain to dst. record is the name of the record it is for.
func (s *Sealer) Seal(dst, record, plain []byte) ([]byte, error) {
	dst = append(dst, sealVersion)
	dst = append(dst, s.current.id[:]...)
	var nonce [nonceSize]byte
	_, _ = rand.Read(nonce[:]) // never fails: crypto/rand ends the process instead
	dst = append(dst, nonce[:]...)
	a, err := s.current.aead(nonce[:])
	if err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	return a.Seal(dst, nonce[12:], plain, record), nil
}

// Open is the inverse of Seal. It never gives back anything but the very bytes that were sealed for this record.
func (s *Sealer) Open(record, sealed []byte) ([]byte, error) {
	if len(sealed) < SealOverhead || sealed[0] != sealVersion {
		return nil, fmt.Errorf("%w: not the form of sealed bytes", ErrSealed)
	}
	id := keyID(sealed[1:])
	w := s.keys[id]
	if w == nil {
		return nil, fmt.Errorf("%w: it was sealed under key %x, at hand is %x", ErrSealed, id, s.current.id)
	}
	nonce := sealed[1+len(id) : sealHeader]
	a, err := w.aead(nonce)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSealed, err)
	}
	plain, err := a.Open(make([]byte, 0, len(sealed)-SealOverhead), nonce[12:], sealed[sealHeader:], record)
	if err != nil {
		return nil, fmt.Errorf("%w: changed, or sealed for another record", ErrSealed)
	}
	return plain, nil
}

// Key tells under which key bytes were sealed, whether that key is at hand, and whether it is the current one. If it is not, they should be sealed again.
func (s *Sealer) Key(sealed []byte) (id string, known, current bool) {
	if len(sealed) < SealOverhead {
		return "", false, false
	}
	k := keyID(sealed[1:])
	return hex.EncodeToString(k[:]), s.keys[k] != nil, k == s.current.id
}
