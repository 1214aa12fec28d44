package rest

import (
	"encoding/csv"
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"lorikeet/messages"
	v3 "lorikeet/messages/v3"
)

// The columns of a CSV export that are always there. One column for each member of decoded payloads follows, and last the members that have none.
var historyColumns = []string{
	"received_at", "device_id", "dev_eui", "dev_addr", "type", "f_port", "f_cnt", "confirmed", "frm_payload", "gateways", "rssi", "snr", "decode_error",
}

const (
	decodedColumn = "decoded_payload"
	sampledRows   = 1000    // by which the columns are chosen
	sampledBytes  = 4 << 20 // of their JSON
	mostColumns   = 500
)

// historyCSV sends a table. Its columns are the members that the decoded payloads of the first 1,000 events have, so that nothing is read twice and
// nothing kept; what comes later under other names stands as JSON in the last column.
func (s *Server) historyCSV(c *call, r historyRequest) error {
	name := r.ApplicationID
	if r.DeviceID != "" {
		name += "-" + r.DeviceID
	}
	c.Response().Header().Set("Content-Disposition", `attachment; filename="`+name+`.csv"`)
	out := newDownload(c, "text/csv; charset=utf-8", r.limit > 0 && r.limit <= historyPage)
	out.paged = true
	defer out.close()
	t := historyTable{csv: csv.NewWriter(&out.buffer)}
	token, err := s.each(c.ctx(), r, func(entries []messages.LogEntry) error {
		for _, e := range entries {
			t.add(e.Event)
		}
		if t.csv.Flush(); t.csv.Error() != nil {
			return t.csv.Error()
		}
		return out.flush()
	})
	if err != nil && out.sent {
		s.failLate(c, out, err, "\n")
		return nil
	}
	if err != nil {
		return err
	}
	t.begin()
	t.csv.Flush()
	return out.finish(token)
}

// historyRow is an event as a row: the fixed columns, and its decoded payload flattened.
type historyRow struct {
	fixed   []string
	decoded map[string]any
}

// historyTable holds the first rows back until the columns are known.
type historyTable struct {
	csv     *csv.Writer
	waiting []historyRow
	size    int      // of their events
	columns []string // of decoded payloads; sorted
	begun   bool
}

func (t *historyTable) add(e messages.Event) {
	row := rowOf(e)
	if t.begun {
		t.write(row)
		return
	}
	t.waiting = append(t.waiting, row)
	if t.size += len(e.JSON); len(t.waiting) >= sampledRows || t.size >= sampledBytes {
		t.begin()
	}
}

// begin writes the header and what was held back.
func (t *historyTable) begin() {
	if t.begun {
		return
	}
	t.begun = true
	names := map[string]struct{}{}
	for _, row := range t.waiting {
		for name := range row.decoded {
			if len(names) < mostColumns {
				names[name] = struct{}{}
			}
		}
	}
	t.columns = slices.Sorted(maps.Keys(names))
	header := slices.Clone(historyColumns)
	for _, name := range t.columns {
		header = append(header, decodedColumn+"."+name)
	}
	_ = t.csv.Write(append(header, decodedColumn)) // into memory; Error tells
	for _, row := range t.waiting {
		t.write(row)
	}
	t.waiting = nil
}

func (t *historyTable) write(row historyRow) {
	cells := row.fixed
	for _, name := range t.columns {
		cells = append(cells, cell(row.decoded[name]))
		delete(row.decoded, name)
	}
	rest := ""
	if len(row.decoded) > 0 {
		if raw, err := json.Marshal(row.decoded); err == nil {
			rest = string(raw)
		}
	}
	_ = t.csv.Write(append(cells, rest))
}

// cell is a value as text. A text that a spreadsheet would take for a formula gets an apostrophe: it may come from a stranger's device.
func cell(v any) string {
	switch v := v.(type) {
	case nil:
		return ""
	case string:
		if v != "" && strings.ContainsRune("=+-@\t\r", rune(v[0])) {
			return "'" + v
		}
		return v
	case bool:
		return strconv.FormatBool(v)
	case json.Number:
		return v.String()
	}
	raw, err := json.Marshal(v)
	if err != nil {
		return ""
	}
	return string(raw)
}

// historyBody are the members of uplinks and downlinks that have a column.
type historyBody struct {
	FPort       *v3.Uint32      `json:"f_port"`
	FCnt        *v3.Uint32      `json:"f_cnt"`
	Confirmed   bool            `json:"confirmed"`
	FRMPayload  string          `json:"frm_payload"`
	Decoded     json.RawMessage `json:"decoded_payload"`
	Normalized  json.RawMessage `json:"normalized_payload"`
	DecodeError string          `json:"decode_error"`
	Rx          []v3.RxMetadata `json:"rx_metadata"`
	Downlink    *historyBody    `json:"downlink"` // of downlink_failed
}

func rowOf(e messages.Event) historyRow {
	var bodies map[string]json.RawMessage
	var b historyBody
	if json.Unmarshal(e.JSON, &bodies) == nil {
		_ = json.Unmarshal(bodies[string(e.Type)], &b) // what can't be read is left empty
	}
	if b.Downlink != nil {
		b = *b.Downlink
	}
	if e.Type == messages.EventUplinkNormalized {
		b.Decoded = b.Normalized
	}
	row := historyRow{decoded: map[string]any{}}
	if members, err := decodeTree(b.Decoded); err == nil {
		flatten(row.decoded, "", members)
	}
	gateways, rssi, snr := reception(b.Rx)
	confirmed := ""
	if b.FPort != nil {
		confirmed = strconv.FormatBool(b.Confirmed)
	}
	row.fixed = []string{
		e.Time.UTC().Format(time.RFC3339Nano), e.Device.DeviceID, unlessZero(e.DevEUI.IsZero(), e.DevEUI.String()), unlessZero(e.DevAddr.IsZero(), e.DevAddr.String()),
		string(e.Type), number(b.FPort), number(b.FCnt), confirmed, b.FRMPayload, gateways, rssi, snr, cell(b.DecodeError),
	}
	return row
}

func unlessZero(zero bool, text string) string {
	if zero {
		return ""
	}
	return text
}

func number(n *v3.Uint32) string {
	if n == nil {
		return ""
	}
	return strconv.FormatUint(uint64(*n), 10)
}

// reception gives how many radio gateways heard an uplink, and RSSI (dBm) and SNR (dB) of the one that heard it best.
func reception(rx []v3.RxMetadata) (gateways, rssi, snr string) {
	if len(rx) == 0 {
		return "", "", ""
	}
	best := rx[0]
	for _, r := range rx[1:] {
		if r.SNR > best.SNR {
			best = r
		}
	}
	text := func(f float32) string { return strconv.FormatFloat(float64(f), 'f', -1, 32) }
	return strconv.Itoa(len(rx)), text(best.RSSI), text(best.SNR)
}

// flatten names the members of nested objects by their path, with dots. Lists stay whole.
func flatten(to map[string]any, path string, members tree) {
	for name, value := range members {
		if path != "" {
			name = path + "." + name
		}
		if inner, ok := value.(tree); ok && len(inner) > 0 {
			flatten(to, name, inner)
			continue
		}
		to[name] = value
	}
}
