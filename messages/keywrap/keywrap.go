// Package keywrap wraps keys of devices under key-encryption keys (KEK): AES Key Wrap, RFC 3394.
package keywrap

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/subtle"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"

	"lorikeet/messages"
)

// ErrUnwrap says that a key was wrapped under another KEK, or was changed.
var ErrUnwrap = errors.New("the wrapped key does not open under this KEK")

// initial is the check value of RFC 3394 §2.2.3.1.
const initial = 0xa6a6a6a6a6a6a6a6

// KEK is a key-encryption key and its name. It never prints the key.
type KEK struct {
	Label string
	block cipher.Block
}

// New makes a KEK of 16, 24 or 32 bytes.
func New(label string, key []byte) (KEK, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return KEK{}, fmt.Errorf("KEK of %d bytes: use 16, 24 or 32", len(key))
	}
	return KEK{Label: label, block: block}, nil
}

// Parse reads the key as hex digits. Its error does not repeat them.
func Parse(label, digits string) (KEK, error) {
	key, err := hex.DecodeString(digits)
	if err != nil {
		return KEK{}, errors.New("KEK: use 32, 48 or 64 hex digits")
	}
	return New(label, key)
}

func (k KEK) String() string             { return "KEK " + k.Label }
func (k KEK) GoString() string           { return k.String() }
func (k KEK) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(k.String())) }
func (k KEK) LogValue() slog.Value       { return slog.StringValue(k.String()) }

// Wrap gives the 24 bytes of RFC 3394 §2.2.1.
func (k KEK) Wrap(key messages.Key) []byte {
	out := make([]byte, 8+len(key))
	copy(out[8:], key[:])
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], initial)
	n := len(key) / 8
	for j := range 6 {
		for i := 1; i <= n; i++ {
			copy(b[8:], out[8*i:])
			k.block.Encrypt(b[:], b[:])
			binary.BigEndian.PutUint64(b[:8], binary.BigEndian.Uint64(b[:8])^uint64(n*j+i))
			copy(out[8*i:], b[8:])
		}
	}
	copy(out, b[:8])
	return out
}

// Unwrap is the inverse of Wrap (RFC 3394 §2.2.2); ErrUnwrap.
func (k KEK) Unwrap(wrapped []byte) (key messages.Key, err error) {
	if len(wrapped) != 8+len(key) {
		return key, fmt.Errorf("a wrapped key has %d bytes, this one %d", 8+len(key), len(wrapped))
	}
	r := append([]byte(nil), wrapped...)
	var b [16]byte
	copy(b[:8], r)
	n := len(key) / 8
	for j := 5; j >= 0; j-- {
		for i := n; i >= 1; i-- {
			binary.BigEndian.PutUint64(b[:8], binary.BigEndian.Uint64(b[:8])^uint64(n*j+i))
			copy(b[8:], r[8*i:])
			k.block.Decrypt(b[:], b[:])
			copy(r[8*i:], b[8:])
		}
	}
	var want [8]byte
	binary.BigEndian.PutUint64(want[:], initial)
	if subtle.ConstantTimeCompare(b[:8], want[:]) != 1 {
		return messages.Key{}, ErrUnwrap
	}
	copy(key[:], r[8:])
	return key, nil
}
