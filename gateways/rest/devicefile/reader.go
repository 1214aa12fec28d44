package devicefile

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"
)

// source gives the devices of a file as objects; io.EOF at its end. Another error is of one device, unless it is final.
type source interface {
	next() (object, error)
}

// object is a device as it was found in the file.
type object struct {
	fields   map[string]any // decoded JSON in snake_case, numbers as json.Number
	id       string         // for the row, if fields can't tell
	warnings []string
}

// finalError ends the reading: what follows can't be made out.
type finalError struct{ error }

func (e finalError) Unwrap() error { return e.error }

// Reader reads the devices of a file.
type Reader struct {
	options Options
	format  Format
	source  source
	number  int
	ended   bool
}

// NewReader looks at the beginning of a file. Its error says that nothing can be read of it at all.
func NewReader(r io.Reader, o Options) (*Reader, error) {
	limit := &limiter{r: r, left: maxRow}
	b := bufio.NewReaderSize(limit, 64<<10)
	head, err := b.Peek(4)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	switch {
	case bytes.HasPrefix(head, []byte("\xef\xbb\xbf")):
		_, _ = b.Discard(3) // peeked
	case bytes.HasPrefix(head, []byte("\xff\xfe")), bytes.HasPrefix(head, []byte("\xfe\xff")):
		return nil, invalid("the file is UTF-16: save it as UTF-8")
	case bytes.HasPrefix(head, []byte("PK")):
		return nil, invalid("the file is a spreadsheet or an archive: save it as CSV or JSON")
	}
	first, err := firstByte(b)
	if errors.Is(err, io.EOF) {
		return nil, invalid("the file is empty")
	}
	if err != nil {
		return nil, err
	}
	isJSON := first == '{' || first == '['
	out := &Reader{options: o, format: o.Format}
	switch {
	case isJSON && o.Format == CSV:
		return nil, invalid("the file is JSON and not CSV: leave the format out, or name the right one")
	case !isJSON && (o.Format == JSON || o.Format == Sealed):
		return nil, invalid("the file is not JSON: it begins with %q", first)
	case isJSON:
		out.source, out.format, err = newJSONSource(b, limit, o)
	default:
		out.source, out.format, err = newCSVSource(b, limit, o)
	}
	return out, err
}

// firstByte gives the first byte that is not white space, and leaves it to be read.
func firstByte(b *bufio.Reader) (byte, error) {
	for {
		c, err := b.ReadByte()
		if err != nil {
			return 0, err
		}
		if !strings.ContainsRune(" \t\r\n", rune(c)) {
			return c, b.UnreadByte()
		}
	}
}

// Format is what the file was found to be.
func (r *Reader) Format() Format { return r.format }

// Next gives the next device; io.EOF after the last. Any other error is of the connection that the file comes through.
func (r *Reader) Next() (Row, error) {
	if r.ended {
		return Row{}, io.EOF
	}
	o, err := r.source.next()
	if errors.Is(err, io.EOF) {
		r.ended = true
		return Row{}, io.EOF
	}
	r.number++
	row := Row{Number: r.number, DeviceID: o.id, Warnings: o.warnings}
	var final finalError
	var broken brokenError
	switch {
	case errors.As(err, &broken):
		r.ended = true
		return Row{}, broken.error
	case errors.As(err, &final):
		r.ended = true
		row.Err = final.error
		return row, nil
	case err != nil:
		row.Err = err
		return row, nil
	}
	r.complete(o.fields)
	row.DeviceID = idOf(o.fields)
	if row.Device, err = json.Marshal(o.fields); err != nil {
		row.Err = invalid("the device can't be written as JSON: %v", err)
	}
	return row, nil
}

// complete adds what the file does not say: the defaults, and an id made of the DevEUI, as The Things Stack does.
func (r *Reader) complete(fields map[string]any) {
	for name, preset := range map[string]string{
		"frequency_plan_id": r.options.FrequencyPlanID, "lorawan_version": r.options.LoRaWANVersion, "lorawan_phy_version": r.options.LoRaWANPHYVersion,
	} {
		if text, _ := fields[name].(string); text == "" && preset != "" {
			fields[name] = preset
		}
	}
	ids := member(fields, "ids")
	if text, _ := ids["device_id"].(string); text != "" {
		return
	}
	if eui, _ := ids["dev_eui"].(string); eui != "" {
		ids["device_id"] = "eui-" + strings.ToLower(strings.NewReplacer("-", "", ":", "").Replace(eui))
	}
}

func idOf(fields map[string]any) string {
	text, _ := member(fields, "ids")["device_id"].(string)
	if len(text) > 64 {
		text = text[:64] + "…"
	}
	return text
}

// member gives the object under a name, which is made if it is not there.
func member(fields map[string]any, name string) map[string]any {
	inner, ok := fields[name].(map[string]any)
	if !ok {
		inner = map[string]any{}
		fields[name] = inner
	}
	return inner
}

// brokenError is of the connection, not of the file.
type brokenError struct{ error }

var errRowTooLong = errors.New("a device has more than 4 MiB")

// limiter bounds how much is read for one device.
type limiter struct {
	r    io.Reader
	left int
}

func (l *limiter) Read(p []byte) (int, error) {
	if l.left <= 0 {
		return 0, errRowTooLong
	}
	n, err := l.r.Read(p[:min(len(p), l.left)])
	l.left -= n
	if err != nil && !errors.Is(err, io.EOF) {
		err = brokenError{err}
	}
	return n, err
}

func (l *limiter) reset() { l.left = maxRow }
