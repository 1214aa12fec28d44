package messages

import (
	"encoding/hex"
	"fmt"
	"log/slog"
	"regexp"
	"strings"
)

// EUI64 is a DevEUI, a JoinEUI or the EUI of a radio gateway, most significant byte first. Its text form is 16 upper-case hex digits.
type EUI64 [8]byte

// ParseEUI64 reads 16 hex digits of either case; the separators "-" and ":" between bytes are accepted.
func ParseEUI64(s string) (EUI64, error) {
	var e EUI64
	if err := parseHex(e[:], s); err != nil {
		return EUI64{}, fmt.Errorf("EUI %q: %w", s, err)
	}
	return e, nil
}

func (e EUI64) String() string               { return strings.ToUpper(hex.EncodeToString(e[:])) }
func (e EUI64) IsZero() bool                 { return e == EUI64{} }
func (e EUI64) MarshalText() ([]byte, error) { return []byte(e.String()), nil }
func (e *EUI64) UnmarshalText(b []byte) (err error) {
	*e, err = ParseEUI64(string(b))
	return err
}

// DevAddr is the address of a device in its session, most significant byte first. Its text form is 8 upper-case hex digits.
type DevAddr [4]byte

// ParseDevAddr reads 8 hex digits of either case.
func ParseDevAddr(s string) (DevAddr, error) {
	var a DevAddr
	if err := parseHex(a[:], s); err != nil {
		return DevAddr{}, fmt.Errorf("DevAddr %q: %w", s, err)
	}
	return a, nil
}

func (a DevAddr) String() string               { return strings.ToUpper(hex.EncodeToString(a[:])) }
func (a DevAddr) IsZero() bool                 { return a == DevAddr{} }
func (a DevAddr) MarshalText() ([]byte, error) { return []byte(a.String()), nil }
func (a *DevAddr) UnmarshalText(b []byte) (err error) {
	*a, err = ParseDevAddr(string(b))
	return err
}

// Key is an AES-128 key. It never prints itself: String, Format and LogValue give "***". Use Hex where the key itself is wanted.
type Key [16]byte

// ParseKey reads 32 hex digits of either case. Its error does not repeat the text.
func ParseKey(s string) (Key, error) {
	var k Key
	if err := parseHex(k[:], s); err != nil {
		return Key{}, fmt.Errorf("key: %w", err)
	}
	return k, nil
}

func (k Key) IsZero() bool               { return k == Key{} }
func (k Key) String() string             { return "***" }
func (k Key) GoString() string           { return "***" }
func (k Key) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("***")) }
func (k Key) LogValue() slog.Value       { return slog.StringValue("***") }
func (k Key) MarshalText() ([]byte, error) {
	return nil, fmt.Errorf("a key is not marshalled by accident: call Hex")
}

// Hex gives the key as 32 upper-case hex digits.
func (k Key) Hex() string { return strings.ToUpper(hex.EncodeToString(k[:])) }

func parseHex(dst []byte, s string) error {
	if len(s) == 3*len(dst)-1 {
		s = strings.NewReplacer("-", "", ":", "").Replace(s)
	}
	if len(s) != 2*len(dst) {
		return fmt.Errorf("want %d hex digits, got %d characters", 2*len(dst), len(s))
	}
	if _, err := hex.Decode(dst, []byte(s)); err != nil {
		return fmt.Errorf("want %d hex digits", 2*len(dst))
	}
	return nil
}

// DeviceID names a device: the application it belongs to and its id in there.
type DeviceID struct {
	ApplicationID string
	DeviceID      string
}

// UID is "application.device": unique in the whole server, since ids hold no dot.
func (d DeviceID) UID() string    { return d.ApplicationID + "." + d.DeviceID }
func (d DeviceID) String() string { return d.UID() }

// ParseUID is the inverse of DeviceID.UID.
func ParseUID(uid string) (DeviceID, error) {
	app, dev, ok := strings.Cut(uid, ".")
	if !ok || app == "" || dev == "" || strings.Contains(dev, ".") {
		return DeviceID{}, fmt.Errorf("device uid %q: want application.device", uid)
	}
	return DeviceID{ApplicationID: app, DeviceID: dev}, nil
}

var idPattern = regexp.MustCompile(`^[a-z0-9](?:[-]?[a-z0-9]){2,}$`)

// ValidateID checks an application, device, radio gateway, webhook or pub/sub id by the rule of The Things Stack:
// 3 to 36 of a-z, 0-9 and single inner dashes.
func ValidateID(id string) error {
	if len(id) > 36 || !idPattern.MatchString(id) {
		return Invalid("invalid_id", "id %q: use 3 to 36 lower-case letters, digits and single dashes, and start and end with a letter or digit", id)
	}
	return nil
}
