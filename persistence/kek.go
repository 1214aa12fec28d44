package persistence

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"lorikeet/messages"
)

// KEK is a key-encryption key. It never prints itself.
type KEK [32]byte

func (k KEK) String() string             { return "***" }
func (k KEK) GoString() string           { return "***" }
func (k KEK) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("***")) }
func (k KEK) LogValue() slog.Value       { return slog.StringValue("***") }
func (k KEK) MarshalText() ([]byte, error) {
	return nil, errors.New("a key-encryption key is not marshalled")
}

// ParseKEK reads 32 bytes as 64 hex digits or as base64 (standard or URL alphabet, padded or not), e.g. from the environment. Its error does not repeat the text.
func ParseKEK(text string) (KEK, error) {
	text = strings.TrimSpace(text)
	if b, err := hex.DecodeString(text); err == nil {
		return kekFrom(b)
	}
	raw := strings.NewReplacer("-", "+", "_", "/").Replace(strings.TrimRight(text, "="))
	b, err := base64.RawStdEncoding.DecodeString(raw)
	if err != nil {
		return KEK{}, invalidKEK("give 32 bytes as 64 hex digits or as base64, e.g. from: head -c 32 /dev/urandom | base64")
	}
	return kekFrom(b)
}

func kekFrom(b []byte) (KEK, error) {
	if len(b) != len(KEK{}) {
		return KEK{}, invalidKEK("want 32 bytes, got %d: make one with: head -c 32 /dev/urandom | base64", len(b))
	}
	if KEK(b) == (KEK{}) {
		return KEK{}, invalidKEK("it is all zeros: make a random one with: head -c 32 /dev/urandom | base64")
	}
	return KEK(b), nil
}

func invalidKEK(format string, args ...any) error {
	return messages.Invalid("invalid_kek", "key-encryption key: "+format, args...)
}

// LoadOrCreateKEK reads the key-encryption key from a file (32 raw bytes, hex or base64), or makes a new random one and writes it there with mode 0600.
// It refuses a file that others may read. The file must be backed up apart from the store: without it the store's keys are lost.
func LoadOrCreateKEK(path string) (KEK, error) {
	k, err := loadKEK(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return k, err
	}
	if err := createKEK(path); err != nil {
		return KEK{}, fmt.Errorf("create the key-encryption key file: %w", err)
	}
	return loadKEK(path)
}

func loadKEK(path string) (KEK, error) {
	f, err := os.Open(path)
	if err != nil {
		return KEK{}, fmt.Errorf("key-encryption key file: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return KEK{}, fmt.Errorf("key-encryption key file: %w", err)
	}
	if !info.Mode().IsRegular() {
		return KEK{}, invalidKEK("%s is not a regular file", path)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 && runtime.GOOS != "windows" {
		return KEK{}, invalidKEK("%s can be read or written by others (mode %04o): run chmod 600 on it, and consider the key as seen", path, mode)
	}
	b := make([]byte, 200)
	n, err := f.Read(b)
	if err != nil && n == 0 {
		return KEK{}, invalidKEK("%s is empty or can't be read: restore it from its backup", path)
	}
	if n == len(KEK{}) && strings.ContainsFunc(string(b[:n]), func(r rune) bool { return r < ' ' || r > '~' }) {
		return kekFrom(b[:n]) // not text: the raw bytes
	}
	k, err := ParseKEK(string(b[:n]))
	if err != nil {
		return KEK{}, fmt.Errorf("%s: %w", path, err)
	}
	return k, nil
}

// createKEK makes the whole file appear at once and durably: a key that is lost half-way after first use would make the store unreadable.
func createKEK(path string) (err error) {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	tmp, err := os.CreateTemp(dir, ".kek-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	defer tmp.Close()
	var k KEK
	_, _ = rand.Read(k[:])
	if _, err := fmt.Fprintln(tmp, base64.StdEncoding.EncodeToString(k[:])); err != nil {
		return err
	}
	if err := tmp.Sync(); err != nil {
		return err
	}
	// A link, unlike a rename, never replaces the key that another process made in the meantime.
	if err := os.Link(tmp.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
