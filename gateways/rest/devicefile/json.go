package devicefile

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"

	v3 "lorikeet/messages/v3"
)

// jsonSource reads objects: one after the other, in a list, or in a list that is a member of one object.
type jsonSource struct {
	dec     *json.Decoder
	r       io.Reader
	limit   *limiter
	lists   int // how many lists the decoder is in
	skipped bool
	convert func(map[string]any) (object, error)
}

// listMembers are the members under which a document may hold a list of devices.
var listMembers = map[string]bool{"end_devices": true, "endDevices": true, "devices": true, "result": true, "items": true}

// newJSONSource reads the first object to find out what the file is.
func newJSONSource(b *bufio.Reader, limit *limiter, o Options) (source, Format, error) {
	s := &jsonSource{dec: json.NewDecoder(b), r: b, limit: limit}
	s.dec.UseNumber()
	first, err := s.object()
	if errors.Is(err, io.EOF) {
		return &peeked{rest: s}, JSON, nil
	}
	if err != nil {
		if broken := (brokenError{}); errors.As(err, &broken) {
			return nil, "", broken.error
		}
		first = nil
	}
	if _, sealed := first[exportMember]; sealed || o.Format == Sealed {
		out, err := newSealedSource(s, first, o.Passphrase)
		return out, Sealed, err
	}
	format := o.Format
	s.convert = thingsStack
	if format == ChirpStack || format == "" && isChirpStack(first) {
		s.convert, format = chirpStack(o), ChirpStack
	} else {
		format = JSON
	}
	return &peeked{first: first, err: err, has: true, rest: s}, format, nil
}

// peeked gives the object that was read first before the others.
type peeked struct {
	first map[string]any
	err   error
	has   bool
	rest  *jsonSource
}

func (p *peeked) next() (object, error) {
	if p.has {
		p.has = false
		if p.err != nil {
			return object{}, p.err
		}
		return p.rest.convert(p.first)
	}
	return p.rest.next()
}

func (s *jsonSource) next() (object, error) {
	fields, err := s.object()
	if err != nil {
		return object{}, err
	}
	return s.convert(fields)
}

// object gives the next object of the file as it stands there.
func (s *jsonSource) object() (map[string]any, error) {
	for {
		s.limit.reset()
		tok, err := s.dec.Token()
		if err != nil {
			return nil, s.unreadable(err)
		}
		switch tok {
		case json.Delim('['):
			s.lists++
		case json.Delim(']'):
			if s.lists--; s.lists == 0 && s.skipped {
				return nil, s.finish()
			}
		case json.Delim('{'):
			fields, err := s.members()
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			if err != nil {
				return nil, s.unreadable(err)
			}
			if fields != nil {
				return fields, nil
			}
		default:
			return nil, invalid("want an object for each device, got %.40v", tok)
		}
	}
}

// members reads an object whose brace was read; nil if it holds a list of devices, which the decoder is in now.
func (s *jsonSource) members() (map[string]any, error) {
	fields := map[string]any{}
	for s.dec.More() {
		tok, err := s.dec.Token()
		if err != nil {
			return nil, err
		}
		name, _ := tok.(string)
		if listMembers[name] && s.lists == 0 {
			tok, err := s.dec.Token()
			switch {
			case err != nil:
				return nil, err
			case tok == json.Delim('['):
				s.lists, s.skipped = 1, true
				return nil, nil
			case tok == json.Delim('{'):
				if fields[name], err = s.whole(); err != nil {
					return nil, err
				}
			default:
				fields[name] = tok
			}
			continue
		}
		var value any
		if err := s.dec.Decode(&value); err != nil {
			return nil, err
		}
		fields[name] = value
	}
	_, err := s.dec.Token() // the closing brace
	return fields, err
}

// whole reads an object whose brace was read.
func (s *jsonSource) whole() (map[string]any, error) {
	fields := map[string]any{}
	for s.dec.More() {
		tok, err := s.dec.Token()
		if err != nil {
			return nil, err
		}
		name, _ := tok.(string)
		var value any
		if err := s.dec.Decode(&value); err != nil {
			return nil, err
		}
		fields[name] = value
	}
	_, err := s.dec.Token()
	return fields, err
}

// finish reads what follows the list of devices in its document.
func (s *jsonSource) finish() error {
	for {
		s.limit.reset()
		if _, err := s.dec.Token(); err != nil {
			return s.unreadable(err)
		}
	}
}

// unreadable says what an error means. After a mistake in a file of one device a line, the reading goes on with the next line that begins an object.
func (s *jsonSource) unreadable(err error) error {
	var broken brokenError
	switch {
	case errors.Is(err, io.EOF) && s.lists == 0:
		return io.EOF
	case errors.As(err, &broken):
		return broken
	case errors.Is(err, errRowTooLong):
		return finalError{invalid("a device has more than %d MiB: the file can't be read beyond here", maxRow>>20)}
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return finalError{invalid("the file ends in the middle of a device: it was cut off")}
	}
	problem := invalid("not JSON: %v", strings.TrimPrefix(err.Error(), "json: "))
	if s.lists > 0 || !s.nextLine() {
		return finalError{invalid("not JSON: %v; the file can't be read beyond here", strings.TrimPrefix(err.Error(), "json: "))}
	}
	return problem
}

// nextLine goes on with the next line that begins with a brace; false if there is none.
func (s *jsonSource) nextLine() bool {
	b := bufio.NewReaderSize(io.MultiReader(s.dec.Buffered(), s.r), 64<<10)
	for {
		s.limit.reset()
		_, err := b.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		if err != nil {
			return false
		}
		if c, err := b.Peek(1); err == nil && c[0] == '{' {
			s.r, s.dec = b, json.NewDecoder(b)
			s.dec.UseNumber()
			return true
		}
	}
}

// thingsStack takes a device as The Things Stack writes it out of its wrappings.
func thingsStack(fields map[string]any) (object, error) {
	raw, err := json.Marshal(fields)
	if err != nil {
		return object{}, invalid("the device can't be read: %v", err)
	}
	if v3.TooDeep(raw, maxDepth) {
		return object{}, invalid("the device is nested deeper than %d levels", maxDepth)
	}
	if raw, err = v3.SnakeCase(raw); err != nil {
		return object{}, invalid("the device can't be read: %v", err)
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	var snake map[string]any
	if err := dec.Decode(&snake); err != nil {
		return object{}, invalid("the device can't be read: %v", err)
	}
	for _, wrapping := range []string{"result", "end_device"} {
		if inner, ok := snake[wrapping].(map[string]any); ok {
			snake = inner
		}
	}
	if _, ok := snake["ids"].(map[string]any); !ok {
		return object{}, invalid(`the object is no end device: it has no "ids"`)
	}
	return object{fields: snake}, nil
}
