package devicefile

import (
	"bytes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"golang.org/x/crypto/argon2"
	"golang.org/x/crypto/chacha20poly1305"

	"lorikeet/messages"
)

// An export is JSON lines. The first says how it is sealed, with a check that tells a wrong passphrase from a damaged file:
//
//	{"lorikeet_export":1,"application_id":"…","exported_at":"…","kdf":{"name":"argon2id","time":3,"memory_kib":65536,"threads":4,"salt":"…"},
//	 "cipher":"xchacha20-poly1305","check":"…"}
//	{"n":1,"device_id":"…","sealed":"…"}
//	{"end":1,"sealed":"…"}
//
// "sealed" is base64 of a random nonce of 24 bytes and the ciphertext. Number and device id are authenticated with it, so that no line can be left out,
// repeated or exchanged; the last line, that there are no more.
const (
	exportMember  = "lorikeet_export"
	exportVersion = 1
	cipherName    = "xchacha20-poly1305"
	kdfName       = "argon2id"
	checkText     = "lorikeet export"

	// MinPassphrase is the length of a passphrase at least, in bytes.
	MinPassphrase = 8
)

// What a file may ask for when it is read: it may come from a stranger.
const (
	mostTime    = 10
	mostMemory  = 256 << 10 // KiB
	mostThreads = 16
)

type kdf struct {
	Name      string `json:"name"`
	Time      uint32 `json:"time"`
	MemoryKiB uint32 `json:"memory_kib"`
	Threads   uint8  `json:"threads"`
	Salt      []byte `json:"salt"`
}

type exportHeader struct {
	Version       int       `json:"lorikeet_export"`
	ApplicationID string    `json:"application_id"`
	ExportedAt    time.Time `json:"exported_at"`
	KDF           kdf       `json:"kdf"`
	Cipher        string    `json:"cipher"`
	Check         string    `json:"check"`
}

type sealedLine struct {
	N        uint64 `json:"n,omitempty"`
	End      uint64 `json:"end,omitempty"`
	DeviceID string `json:"device_id,omitempty"`
	Sealed   string `json:"sealed"`
}

// Writer writes a sealed export.
type Writer struct {
	w    io.Writer
	aead cipher.AEAD
	n    uint64
}

// NewWriter writes the header. It takes some time and 64 MiB to derive the key.
func NewWriter(w io.Writer, applicationID string, now time.Time, passphrase []byte) (*Writer, error) {
	return newWriter(w, applicationID, now, passphrase, kdf{Name: kdfName, Time: 3, MemoryKiB: 64 << 10, Threads: 4, Salt: make([]byte, 16)})
}

func newWriter(w io.Writer, applicationID string, now time.Time, passphrase []byte, k kdf) (*Writer, error) {
	if len(passphrase) < MinPassphrase {
		return nil, messages.Invalid("passphrase_too_short", "the passphrase has %d bytes: use at least %d, and rather a sentence than a word", len(passphrase), MinPassphrase)
	}
	h := exportHeader{Version: exportVersion, ApplicationID: applicationID, ExportedAt: now.UTC(), Cipher: cipherName, KDF: k}
	_, _ = rand.Read(h.KDF.Salt) // never fails since Go 1.24
	aead, err := h.KDF.cipher(passphrase)
	if err != nil {
		return nil, err
	}
	out := &Writer{w: w, aead: aead}
	h.Check = out.seal([]byte(checkText), checkText, 0)
	return out, out.line(h)
}

func (k *kdf) cipher(passphrase []byte) (cipher.AEAD, error) {
	return chacha20poly1305.NewX(argon2.IDKey(passphrase, k.Salt, k.Time, k.MemoryKiB, k.Threads, chacha20poly1305.KeySize))
}

func (w *Writer) line(v any) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("write the export: %w", err)
	}
	_, err = w.w.Write(append(raw, '\n'))
	return err
}

// place is what is authenticated with a line.
func place(name string, n uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte(name+"\x00"), n)
}

func (w *Writer) seal(plain []byte, name string, n uint64) string {
	nonce := make([]byte, chacha20poly1305.NonceSizeX, chacha20poly1305.NonceSizeX+len(plain)+chacha20poly1305.Overhead)
	_, _ = rand.Read(nonce)
	return base64.StdEncoding.EncodeToString(w.aead.Seal(nonce, nonce, plain, place(name, n)))
}

// Device writes one device, a v3.Transfer as JSON.
func (w *Writer) Device(id string, device []byte) error {
	w.n++
	return w.line(sealedLine{N: w.n, DeviceID: id, Sealed: w.seal(device, "device "+id, w.n)})
}

// Close writes that this was all. It does not close the writer below.
func (w *Writer) Close() error {
	return w.line(struct {
		End    uint64 `json:"end"` // also 0
		Sealed string `json:"sealed"`
	}{w.n, w.seal(nil, "end", w.n)})
}

// sealedSource opens the devices of an export.
type sealedSource struct {
	lines *jsonSource
	aead  cipher.AEAD
	n     uint64
}

func newSealedSource(lines *jsonSource, first map[string]any, passphrase []byte) (*sealedSource, error) {
	var h exportHeader
	if err := recode(first, &h); err != nil {
		return nil, invalid("the first line of the export can't be read: %v", err)
	}
	switch k := h.KDF; {
	case h.Version != exportVersion:
		return nil, invalid("the export is of version %d and this server reads version %d: update it", h.Version, exportVersion)
	case h.Cipher != cipherName || k.Name != kdfName:
		return nil, invalid("the export is sealed with %.40q and %.40q: this server knows %s and %s", h.Cipher, k.Name, cipherName, kdfName)
	case k.Time < 1 || k.Time > mostTime || k.MemoryKiB < 8 || k.MemoryKiB > mostMemory || k.Threads < 1 || k.Threads > mostThreads || len(k.Salt) < 8 || len(k.Salt) > 64:
		return nil, invalid("the export asks for more work than this server does to derive its key")
	case len(passphrase) == 0:
		return nil, messages.Invalid("no_passphrase", "the export is sealed: give its passphrase in the header X-Lorikeet-Passphrase")
	}
	aead, err := h.KDF.cipher(passphrase)
	if err != nil {
		return nil, err
	}
	s := &sealedSource{lines: lines, aead: aead}
	if plain, err := s.open(h.Check, checkText, 0); err != nil || !bytes.Equal(plain, []byte(checkText)) {
		return nil, messages.Invalid("wrong_passphrase", "the passphrase is not the one that the export was sealed with, or its first line was changed")
	}
	return s, nil
}

func recode(from map[string]any, to any) error {
	raw, err := json.Marshal(from)
	if err != nil {
		return err
	}
	return json.Unmarshal(raw, to)
}

func (s *sealedSource) open(sealed, name string, n uint64) ([]byte, error) {
	b, err := base64.StdEncoding.DecodeString(sealed)
	if err != nil || len(b) < chacha20poly1305.NonceSizeX {
		return nil, errors.New("it is not base64 of a nonce and a ciphertext")
	}
	return s.aead.Open(nil, b[:chacha20poly1305.NonceSizeX], b[chacha20poly1305.NonceSizeX:], place(name, n))
}

func (s *sealedSource) next() (object, error) {
	fields, err := s.lines.object()
	if errors.Is(err, io.EOF) {
		return object{}, finalError{invalid("the export ends without its last line: it was cut off after device %d", s.n)}
	}
	if err != nil {
		var broken brokenError
		if errors.As(err, &broken) {
			return object{}, err
		}
		return object{}, finalError{err} // what follows has no numbers that could be relied on
	}
	var l sealedLine
	if err := recode(fields, &l); err != nil {
		return object{}, finalError{invalid("line %d of the export can't be read: %v", s.n+2, err)}
	}
	if _, end := fields["end"]; end {
		if _, err := s.open(l.Sealed, "end", l.End); err != nil || l.End != s.n {
			return object{}, finalError{invalid("the last line of the export was changed, or devices are missing: it says %d, and there were %d", l.End, s.n)}
		}
		return object{}, io.EOF
	}
	s.n++
	plain, err := s.open(l.Sealed, "device "+l.DeviceID, s.n)
	if err != nil || l.N != s.n {
		return object{id: shorten(l.DeviceID)}, finalError{invalid("device %d of the export was changed, left out or put elsewhere", s.n)}
	}
	dec := json.NewDecoder(strings.NewReader(string(plain)))
	dec.UseNumber()
	var device map[string]any
	if err := dec.Decode(&device); err != nil {
		return object{id: shorten(l.DeviceID)}, invalid("device %d of the export can't be read: %v", s.n, err)
	}
	return thingsStack(device)
}
