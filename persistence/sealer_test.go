package persistence

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func testKEK(fill byte) KEK { return KEK(bytes.Repeat([]byte{fill}, 32)) }

// The vectors of the C2SP specification of XAES-256-GCM.
func TestXAESVectors(t *testing.T) {
	t.Parallel()
	nonce := []byte("ABCDEFGHIJKLMNOPQRSTUVWX")
	for _, c := range []struct {
		key       byte
		aad, want string
	}{
		{1, "", "ce546ef63c9cc60765923609b33a9a1974e96e52daf2fcf7075e2271"},
		{3, "c2sp.org/XAES-256-GCM", "986ec1832593df5443a179437fd083bf3fdb41abd740a21f71eb769d"},
	} {
		a, err := newWrapKey(testKEK(c.key)).aead(nonce)
		if err != nil {
			t.Fatal(err)
		}
		got := hex.EncodeToString(a.Seal(nil, nonce[12:], []byte("XAES-256-GCM"), []byte(c.aad)))
		if got != c.want {
			t.Errorf("key %d: got %s, want %s", c.key, got, c.want)
		}
	}
}

func TestSealerRoundTripAndRefusals(t *testing.T) {
	t.Parallel()
	old, current := NewSealer(testKEK(1)), NewSealer(testKEK(2), testKEK(1))
	record, plain := []byte("session a.b"), []byte("0123456789ABCDEF")
	sealed, err := old.Seal([]byte("prefix"), record, plain)
	if err != nil {
		t.Fatal(err)
	}
	sealed = bytes.TrimPrefix(sealed, []byte("prefix"))
	if len(sealed) != len(plain)+SealOverhead || bytes.Contains(sealed, plain) {
		t.Fatalf("sealed form is wrong: %d bytes", len(sealed))
	}
	if got, err := current.Open(record, sealed); err != nil || !bytes.Equal(got, plain) {
		t.Fatalf("open with the older key: %q, %v", got, err)
	}
	if id, known, now := current.Key(sealed); id != old.KeyID() || !known || now {
		t.Errorf("Key of what was sealed under the older key: %s, %v, %v", id, known, now)
	}
	if id, known, now := old.Key(sealed); id != old.KeyID() || !known || !now {
		t.Errorf("Key of what was sealed under the current key: %s, %v, %v", id, known, now)
	}
	if _, err := NewSealer(testKEK(3)).Open(record, sealed); !errors.Is(err, ErrSealed) || !strings.Contains(err.Error(), old.KeyID()) {
		t.Errorf("open with a foreign key: %v", err)
	}
	if _, err := old.Open([]byte("session a.c"), sealed); !errors.Is(err, ErrSealed) {
		t.Errorf("open as another record: %v", err)
	}
	for i := range sealed {
		for bit := range 8 {
			bad := bytes.Clone(sealed)
			bad[i] ^= 1 << bit
			if got, err := old.Open(record, bad); !errors.Is(err, ErrSealed) || got != nil {
				t.Fatalf("byte %d bit %d flipped: %q, %v", i, bit, got, err)
			}
		}
	}
	for n := range sealed {
		if _, err := old.Open(record, sealed[:n]); !errors.Is(err, ErrSealed) {
			t.Fatalf("cut to %d: %v", n, err)
		}
	}
}

func TestLoadOrCreateKEK(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "sub", "kek")
	first, err := LoadOrCreateKEK(path)
	if err != nil {
		t.Fatal(err)
	}
	again, err := LoadOrCreateKEK(path)
	if err != nil || again != first || first == (KEK{}) {
		t.Fatalf("second load differs or is zero: %v", err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("mode %v, %v", info.Mode(), err)
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(path), ".kek-*")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadOrCreateKEK(path); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("group-readable file: %v", err)
	}
	if s := fmt.Sprintf("%v %s %x %+v %#v", first, first, first, first, first); strings.Trim(s, "* ") != "" {
		t.Errorf("the key prints itself: %s", s)
	}
}

func TestKEKForms(t *testing.T) {
	t.Parallel()
	var raw [32]byte
	_, _ = rand.Read(raw[:])
	raw[0], raw[1], raw[2] = 0xfb, 0xff, 0xfe // "+/" and "-_" in base64
	h := hex.EncodeToString(raw[:])
	for name, content := range map[string]string{"raw": string(raw[:]), "hex": h, "HEX": strings.ToUpper(h) + "\r\n"} {
		path := filepath.Join(t.TempDir(), "kek")
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if k, err := LoadOrCreateKEK(path); err != nil || k != KEK(raw) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, bad := range []string{"", "00", h[2:], h[32:], h + "00", strings.Repeat("0", 64), "not a key at all!"} {
		_, err := ParseKEK(bad)
		if err == nil || (len(bad) > 5 && strings.Contains(err.Error(), bad)) {
			t.Errorf("ParseKEK(%q): %v", bad, err)
		}
		path := filepath.Join(t.TempDir(), "kek")
		if err := os.WriteFile(path, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := LoadOrCreateKEK(path); err == nil {
			t.Errorf("file with %q was accepted", bad)
		}
	}
}

func FuzzSealerOpen(f *testing.F) {
	s := NewSealer(testKEK(7))
	sealed, err := s.Seal(nil, []byte("r"), []byte("plain"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(sealed)
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		// Each process of the fuzzer seals the seed anew; whatever opens must be one of these.
		plain, err := s.Open([]byte("r"), b)
		if err == nil && string(plain) != "plain" || err != nil && plain != nil || err != nil && bytes.Equal(b, sealed) {
			t.Fatalf("%q, %v", plain, err)
		}
	})
}
