package badger

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"lorikeet/messages"
	"lorikeet/persistence"
)

// The first byte of a key is its family. Records of the families in tracked are covered by the digest in the state record.
const (
	familyState   = '0'
	familyCheck   = '1' // the sealed check record, by which a wrong key-encryption key is recognised
	familyApp     = 'a' // application: logMeta
	familyCursor  = 'c' // name: Seq
	familyDoc     = 'd' // kind, 0, id
	familySession = 's' // UID of the device
	familyLog     = 'l' // application, 0, Seq in 8 bytes
	familyIndex   = 'i' // application, 0, device, 0, Seq in 8 bytes
)

var (
	trackedFamilies = [...]byte{familyApp, familyCursor, familyDoc, familySession}
	stateKey        = []byte{familyState}
	checkKey        = []byte{familyCheck}
)

func nameKey(family byte, name string) []byte {
	return append(append(make([]byte, 0, 1+len(name)), family), name...)
}

func sessionKey(id messages.DeviceID) []byte {
	k := make([]byte, 0, 2+len(id.ApplicationID)+len(id.DeviceID))
	k = append(k, familySession)
	k = append(k, id.ApplicationID...)
	k = append(k, '.')
	return append(k, id.DeviceID...)
}

func docKey(kind messages.Kind, id string) []byte {
	k := make([]byte, 0, 2+len(kind)+len(id))
	k = append(k, familyDoc)
	k = append(k, kind...)
	k = append(k, 0)
	return append(k, id...)
}

func logKey(app string, seq uint64) []byte {
	k := make([]byte, 0, 10+len(app))
	k = append(k, familyLog)
	k = append(k, app...)
	k = append(k, 0)
	return binary.BigEndian.AppendUint64(k, seq)
}

// logSeq gives the Seq of a log key; false if the key is not of this application.
func logSeq(app string, key []byte) (uint64, bool) {
	prefix := len(app) + 2
	if len(key) != prefix+8 || key[0] != familyLog || string(key[1:prefix-1]) != app || key[prefix-1] != 0 {
		return 0, false
	}
	return binary.BigEndian.Uint64(key[prefix:]), true
}

// class is what records are counted by: the family and, of documents, the kind.
func class(key []byte) []byte {
	if key[0] == familyDoc {
		if i := bytes.IndexByte(key, 0); i > 0 {
			return key[:i]
		}
	}
	return key[:1]
}

// sealed says whether the payload of a record is sealed.
func sealed(key []byte) bool {
	return key[0] == familySession || key[0] == familyDoc && persistence.Secret(messages.Kind(class(key)[1:]))
}

// nameOf says in words which record a key is for.
func nameOf(key []byte) string {
	rest := key[1:]
	switch key[0] {
	case familyApp:
		return fmt.Sprintf("the log of application %q", rest)
	case familyCursor:
		return fmt.Sprintf("cursor %q", rest)
	case familyDoc:
		kind, id, _ := bytes.Cut(rest, []byte{0})
		return fmt.Sprintf("registry document %q of kind %q", id, kind)
	case familySession:
		return fmt.Sprintf("the session of device %q", rest)
	case familyLog:
		if app, seq, ok := bytes.Cut(rest, []byte{0}); ok && len(seq) == 8 {
			return fmt.Sprintf("entry %d of the log of application %q", binary.BigEndian.Uint64(seq), app)
		}
	case familyIndex:
		return fmt.Sprintf("the index of a log by device (%q)", rest)
	case familyState:
		return "the state record"
	case familyCheck:
		return "the key check record"
	}
	return fmt.Sprintf("record %q", key)
}
