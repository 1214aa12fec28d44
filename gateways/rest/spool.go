package rest

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
)

// spool keeps lines of JSON on disk until they are sent. They hold no secrets.
type spool struct {
	file  *os.File
	out   *bufio.Writer
	lines int
}

func newSpool() (*spool, error) {
	f, err := os.CreateTemp("", "lorikeet-results-*") // mode 0600
	if err != nil {
		return nil, fmt.Errorf("file for results: %w", err)
	}
	return &spool{file: f, out: bufio.NewWriter(f)}, nil
}

func (s *spool) add(v any) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode a result: %w", err)
	}
	s.lines++
	_, err = s.out.Write(append(raw, '\n')) // an error stays and comes back with Flush
	return err
}

// send answers with all lines.
func (s *spool) send(d *download) error {
	defer d.close()
	if err := s.out.Flush(); err != nil {
		return fmt.Errorf("file for results: %w", err)
	}
	if _, err := s.file.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("file for results: %w", err)
	}
	for {
		n, err := io.CopyN(&d.buffer, s.file, 64<<10)
		if n > 0 {
			if err := d.flush(); err != nil {
				return err
			}
		}
		if err == io.EOF { //nolint:errorlint // io.CopyN gives it as it is
			return d.finish("")
		}
		if err != nil {
			return fmt.Errorf("file for results: %w", err)
		}
	}
}

func (s *spool) close() {
	_ = s.file.Close()
	_ = os.Remove(s.file.Name())
}
