package badger

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
)

// The high-water file says, outside Badger, up to which write the database was durable. It is written after every batch (into the page
// cache, so it survives the end of the process) and synced each second, and so never claims more than what is durable.
// It has two slots in different blocks, written in turn: if the power fails while one is written the other still holds.
//
//	8 bytes magic | 8 bytes store | 8 bytes last write | 4 bytes CRC-32C
const (
	markMagic   = "LKMARK1\n"
	markSize    = 28
	markStride  = 4096
	markSlots   = 2
	markAllSize = markStride + markSize
)

type mark struct{ store, writes uint64 }

func encodeMark(m mark) []byte {
	b := append(make([]byte, 0, markSize), markMagic...)
	b = binary.BigEndian.AppendUint64(b, m.store)
	b = binary.BigEndian.AppendUint64(b, m.writes)
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

// parseMark gives the newer of the slots that are whole, and which one it is. It fails if none is.
func parseMark(file []byte) (newest mark, slot int, err error) {
	slot = -1
	for i := range markSlots {
		if len(file) < i*markStride+markSize {
			continue
		}
		b := file[i*markStride:][:markSize]
		if string(b[:8]) != markMagic || crc32.Checksum(b[:24], castagnoli) != binary.BigEndian.Uint32(b[24:]) {
			continue
		}
		m := mark{store: binary.BigEndian.Uint64(b[8:]), writes: binary.BigEndian.Uint64(b[16:])}
		if slot < 0 || m.writes > newest.writes {
			newest, slot = m, i
		}
	}
	if slot < 0 {
		return mark{}, 0, errors.New("no part of it is whole")
	}
	return newest, slot, nil
}

// readMark gives fs.ErrNotExist if there is no high-water file.
func readMark(path string) (mark, error) {
	f, err := os.Open(path)
	if err != nil {
		return mark{}, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, markAllSize))
	if err != nil {
		return mark{}, err
	}
	m, _, err := parseMark(b)
	return m, err
}

// markFile is the high-water file in use. write is for the committer alone; sync may run beside it.
type markFile struct {
	f     *os.File
	store uint64
	slot  int
}

// createMark replaces the high-water file, durably and at once, and keeps it open.
func createMark(path string, m mark) (_ *markFile, err error) {
	tmp := path + ".new"
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_RDWR|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("high-water file: %w", err)
	}
	defer func() {
		if err != nil {
			f.Close()
		}
	}()
	mf := &markFile{f: f, store: m.store}
	for range markSlots {
		if err := mf.write(m.writes); err != nil {
			return nil, err
		}
	}
	if err := mf.sync(); err != nil {
		return nil, err
	}
	if err := os.Rename(tmp, path); err != nil {
		return nil, fmt.Errorf("high-water file: %w", err)
	}
	if err := syncDir(filepath.Dir(path)); err != nil {
		return nil, fmt.Errorf("high-water file: %w", err)
	}
	return mf, nil
}

func (m *markFile) write(writes uint64) error {
	m.slot = (m.slot + 1) % markSlots
	if _, err := m.f.WriteAt(encodeMark(mark{m.store, writes}), int64(m.slot)*markStride); err != nil {
		return fmt.Errorf("high-water file: %w", err)
	}
	return nil
}

func (m *markFile) sync() error {
	if err := m.f.Sync(); err != nil {
		return fmt.Errorf("high-water file: %w", err)
	}
	return nil
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
