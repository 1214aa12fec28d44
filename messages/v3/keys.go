package v3

import (
	"encoding/hex"
	"fmt"
	"log/slog"
	"strings"

	"lorikeet/messages"
	"lorikeet/messages/keywrap"
)

// WrapKey gives the envelope of a key under a KEK.
func WrapKey(kek keywrap.KEK, key messages.Key) *KeyEnvelope {
	return &KeyEnvelope{KEKLabel: kek.Label, EncryptedKey: kek.Wrap(key)}
}

// Wrapped says whether the key must be opened before it can be used.
func (e *KeyEnvelope) Wrapped() bool { return e != nil && e.Key == nil && len(e.EncryptedKey) > 0 }

// ActivationSettings say how the keys of an application's devices are wrapped, and for which network they are derived.
type ActivationSettings struct {
	KEKLabel            string `json:"kek_label,omitempty"`
	KEK                 *KEK   `json:"kek,omitempty"` // never shown
	HomeNetID           string `json:"home_net_id,omitempty"`
	ApplicationServerID string `json:"application_server_id,omitempty"`
}

// KEK is a key-encryption key of 16, 24 or 32 bytes in clear: {"key":"<hex>"} in JSON. It is written out, for sealed records, but
// never printed.
type KEK struct {
	Key HexBytes `json:"key,omitempty"`
}

// HexBytes are secret bytes as upper-case hex.
type HexBytes []byte

func (b HexBytes) MarshalText() ([]byte, error) {
	return []byte(strings.ToUpper(hex.EncodeToString(b))), nil
}

func (b *HexBytes) UnmarshalText(in []byte) error {
	out, err := hex.DecodeString(string(in))
	if err != nil {
		return fmt.Errorf("want hex digits")
	}
	*b = out
	return nil
}

func (b HexBytes) String() string             { return "***" }
func (b HexBytes) GoString() string           { return "***" }
func (b HexBytes) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("***")) }
func (b HexBytes) LogValue() slog.Value       { return slog.StringValue("***") }
