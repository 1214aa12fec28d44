package devicefile

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// column puts a cell where it belongs in a device.
type column func(fields map[string]any, cell string) error

// columns are those of The Things Stack's bulk import, and some more that a device may have. An empty cell leaves its field out.
var columns = map[string]column{
	"id":                    text("ids", "device_id"),
	"device_id":             text("ids", "device_id"),
	"dev_eui":               text("ids", "dev_eui"),
	"join_eui":              text("ids", "join_eui"),
	"app_eui":               text("ids", "join_eui"),
	"name":                  text("name"),
	"description":           text("description"),
	"frequency_plan_id":     text("frequency_plan_id"),
	"lorawan_version":       text("lorawan_version"),
	"lorawan_phy_version":   text("lorawan_phy_version"),
	"brand_id":              text("version_ids", "brand_id"),
	"model_id":              text("version_ids", "model_id"),
	"hardware_version":      text("version_ids", "hardware_version"),
	"firmware_version":      text("version_ids", "firmware_version"),
	"band_id":               text("version_ids", "band_id"),
	"serial_number":         text("serial_number"),
	"vendor_id":             number("lora_alliance_profile_ids", "vendor_id"),
	"vendor_profile_id":     number("lora_alliance_profile_ids", "vendor_profile_id"),
	"app_key":               joining(text("root_keys", "app_key", "key")),
	"nwk_key":               joining(text("root_keys", "nwk_key", "key")),
	"rx1_delay":             text("mac_settings", "rx1_delay"),
	"supports_32_bit_f_cnt": boolean("mac_settings", "supports_32_bit_f_cnt"),
	"resets_f_cnt":          boolean("mac_settings", "resets_f_cnt"),
	"supports_join":         boolean("supports_join"),
	"supports_class_b":      boolean("supports_class_b"),
	"supports_class_c":      boolean("supports_class_c"),
	"dev_addr":              text("session", "dev_addr"),
	"app_s_key":             text("session", "keys", "app_s_key", "key"),
	"nwk_s_key":             text("session", "keys", "f_nwk_s_int_key", "key"),
	"f_nwk_s_int_key":       text("session", "keys", "f_nwk_s_int_key", "key"),
	"s_nwk_s_int_key":       text("session", "keys", "s_nwk_s_int_key", "key"),
	"nwk_s_enc_key":         text("session", "keys", "nwk_s_enc_key", "key"),
	"last_f_cnt_up":         number("session", "last_f_cnt_up"),
	"last_n_f_cnt_down":     number("session", "last_n_f_cnt_down"),
	"last_a_f_cnt_down":     number("session", "last_a_f_cnt_down"),
}

func set(fields map[string]any, path []string, value any) {
	for _, name := range path[:len(path)-1] {
		fields = member(fields, name)
	}
	fields[path[len(path)-1]] = value
}

func text(path ...string) column {
	return func(fields map[string]any, cell string) error {
		set(fields, path, cell)
		return nil
	}
}

func number(path ...string) column {
	return func(fields map[string]any, cell string) error {
		n, err := strconv.ParseUint(cell, 10, 32)
		if err != nil {
			return errors.New("want a number of 0 to 4294967295")
		}
		set(fields, path, json.Number(strconv.FormatUint(n, 10)))
		return nil
	}
}

func boolean(path ...string) column {
	return func(fields map[string]any, cell string) error {
		b, err := strconv.ParseBool(strings.ToLower(cell))
		if err != nil {
			return errors.New("want true or false")
		}
		set(fields, path, b)
		return nil
	}
}

// joining is a root key: who has one joins, unless a column says otherwise.
func joining(set column) column {
	return func(fields map[string]any, cell string) error {
		if _, said := fields["supports_join"]; !said {
			fields["supports_join"] = true
		}
		return set(fields, cell)
	}
}

type csvSource struct {
	r       *csv.Reader
	limit   *limiter
	header  []string
	convert func(map[string]any) (object, error) // of ChirpStack's columns; nil: The Things Stack's
}

// newCSVSource reads the header. The separator is the one of ; , and tab that the header has most of.
func newCSVSource(b *bufio.Reader, limit *limiter, o Options) (source, Format, error) {
	line, _ := b.Peek(b.Size()) // what there is of it
	line, _, _ = bytes.Cut(line, []byte("\n"))
	comma := ';'
	for _, c := range ",\t" {
		if bytes.Count(line, []byte(string(c))) > bytes.Count(line, []byte(string(comma))) {
			comma = c
		}
	}
	s := &csvSource{r: csv.NewReader(b), limit: limit}
	s.r.Comma, s.r.TrimLeadingSpace, s.r.FieldsPerRecord, s.r.ReuseRecord = comma, comma != '\t', -1, true
	header, err := s.r.Read()
	if err != nil {
		if broken := (brokenError{}); errors.As(err, &broken) {
			return nil, "", broken.error
		}
		return nil, "", invalid("the header of the CSV file can't be read: %v", err)
	}
	known := 0
	for _, name := range header {
		name = strings.ReplaceAll(strings.ToLower(strings.TrimSpace(name)), " ", "_")
		if columns[name] != nil {
			if slices.Contains(s.header, name) {
				return nil, "", invalid("the CSV file has two columns %q", name)
			}
			known++
		}
		s.header = append(s.header, name)
	}
	if known == 0 {
		return nil, "", invalid("the CSV file has no known column in its first line: use for example id;dev_eui;join_eui;name;frequency_plan_id;lorawan_version;lorawan_phy_version;app_key")
	}
	if o.Format == ChirpStack || slices.Contains(s.header, "device_profile_id") {
		s.convert = chirpStack(o)
		return s, ChirpStack, nil
	}
	return s, CSV, nil
}

func (s *csvSource) next() (object, error) {
	s.limit.reset()
	record, err := s.r.Read()
	var wrong *csv.ParseError
	var broken brokenError
	switch {
	case errors.Is(err, io.EOF):
		return object{}, io.EOF
	case errors.As(err, &broken):
		return object{}, broken
	case errors.As(err, &wrong) && !errors.Is(err, errRowTooLong):
		return object{}, invalid("line %d, column %d: %v", wrong.Line, wrong.Column, wrong.Err)
	case err != nil:
		return object{}, finalError{invalid("a row has more than %d MiB: the file can't be read beyond here", maxRow>>20)}
	}
	fields := map[string]any{}
	if len(record) > len(s.header) {
		return object{}, invalid("the row has %d fields and the header %d: put fields that hold the separator in quotes", len(record), len(s.header))
	}
	if s.convert != nil {
		for i, cell := range record {
			if cell = strings.TrimSpace(cell); cell != "" {
				fields[s.header[i]] = cell
			}
		}
		return s.convert(fields)
	}
	var problem error
	for i, cell := range record {
		set := columns[s.header[i]]
		if cell = strings.TrimSpace(cell); set == nil || cell == "" {
			continue
		}
		if err := set(fields, cell); err != nil && problem == nil {
			problem = invalid("%s: %w", s.header[i], err)
		}
	}
	if _, ok := fields["ids"]; !ok && problem == nil {
		problem = invalid("the row has neither id nor dev_eui")
	}
	return object{fields: fields, id: idOf(fields)}, problem
}

// Columns are the names of the columns that a CSV file may have, sorted.
func Columns() []string { return slices.Sorted(maps.Keys(columns)) }
