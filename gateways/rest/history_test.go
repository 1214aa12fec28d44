package rest

import (
	"bytes"
	"compress/gzip"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"lorikeet/messages"
	"lorikeet/persistence/memory"
)

// historyDoor is a door with app1 and a log that the test fills.
func historyDoor(t *testing.T) (*door, *memory.Store) {
	t.Helper()
	log := memory.New()
	d := newDoor(t, func(c *Config) { c.History = log })
	d.app("app1")
	return d, log
}

// keep appends an event with a body to the log; the n-th comes n minutes after ten.
func keep(t *testing.T, log *memory.Store, device string, n int, typ messages.EventType, body string) {
	t.Helper()
	id := messages.DeviceID{ApplicationID: "app1", DeviceID: device}
	at := time.Date(2026, 2, 3, 10, n, 0, 0, time.UTC)
	text := fmt.Sprintf(`{"end_device_ids":{"device_id":%q,"application_ids":{"application_id":"app1"}},"received_at":%q,%q:%s}`, device, at.Format(time.RFC3339), typ, body)
	e := messages.Event{ID: fmt.Sprint(n), Device: id, Type: typ, Time: at, JSON: []byte(text)}
	if _, err := log.Commit(t.Context(), messages.Commit{Device: id, Events: []messages.Event{e}}); err != nil {
		t.Fatal(err)
	}
}

func fillLog(t *testing.T, log *memory.Store) {
	t.Helper()
	for n := range 6 {
		keep(t, log, fmt.Sprintf("dev-%d", n%2), n, messages.EventUplink, fmt.Sprintf(`{"f_port":%d,"f_cnt":%d,"frm_payload":"AQI="}`, n%3+1, n))
	}
	keep(t, log, "dev-1", 6, messages.EventJoin, `{"session_key_id":"AA=="}`)
	keep(t, log, "dev-1", 7, messages.EventDownFailed, `{"downlink":{"f_port":9}}`)
}

// minutes are the times of the events in an answer.
func (r reply) minutes() (out []int) {
	r.door.Helper()
	for line := range strings.Lines(r.is(200).Body) {
		var one struct {
			Result struct {
				ReceivedAt time.Time `json:"received_at"`
			} `json:"result"`
		}
		if strings.TrimSpace(line) == "" {
			continue
		}
		if err := json.Unmarshal([]byte(line), &one); err != nil || one.Result.ReceivedAt.IsZero() {
			r.door.Fatalf("line %q: %v", line, err)
		}
		out = append(out, one.Result.ReceivedAt.Minute())
	}
	return out
}

func TestHistoryIsReadAsFromTTS(t *testing.T) {
	t.Parallel()
	d, log := historyDoor(t)
	fillLog(t, log)
	const app, dev = "/as/applications/app1/packages/storage", "/as/applications/app1/devices/dev-1/packages/storage"
	for path, want := range map[string][]int{
		app: {0, 1, 2, 3, 4, 5, 6, 7}, app + "/": {0, 1, 2, 3, 4, 5, 6, 7}, app + "/uplink_message": {0, 1, 2, 3, 4, 5},
		app + "/join_accept": {6}, app + "/location_solved": nil,
		dev: {1, 3, 5, 6, 7}, dev + "/uplink_message?order=-received_at": {5, 3, 1}, dev + "/uplink_message?order=received_at&limit=2": {1, 3},
		app + "?limit=3&order=-received_at":                                    {7, 6, 5},
		app + "?after=2026-02-03T10:02:00Z":                                    {3, 4, 5, 6, 7},
		app + "?before=2026-02-03T10:02:00Z":                                   {0, 1},
		app + "?after=2026-02-03T11:02:00%2B01:00&before=2026-02-03T10:04:00Z": {3},
		app + "?last=1s":  nil,
		app + "?f_port=2": {1, 4},
		app + "?f_port=9": {7},
		app + "?f_port=2&limit=1&order=-received_at":               {4},
		app + "/uplink_message?field_mask=up.uplink_message.f_cnt": {0, 1, 2, 3, 4, 5},
		"/as/applications/app1/devices/nobody/packages/storage":    nil,
	} {
		if got := d.do("GET", path, nil).minutes(); !slices.Equal(got, want) {
			t.Errorf("%s gives %v, want %v", path, got, want)
		}
	}
	got := d.do("GET", app+"/uplink_message?field_mask=up.uplink_message.f_cnt&limit=1&order=-received_at", nil).Body
	want := `{"result":{"end_device_ids":{"application_ids":{"application_id":"app1"},"device_id":"dev-1"},"received_at":"2026-02-03T10:05:00Z","uplink_message":{"f_cnt":5}}}` + "\n"
	if got != want {
		t.Errorf("with a mask: %s", got)
	}
	req := httptest.NewRequest("GET", prefix+app+"?limit=2", nil)
	req.Header.Set("Authorization", "Bearer "+adminKey)
	req.Header.Set("Accept", "text/event-stream")
	if r := d.send(req).is(200); strings.Count(r.Body, "}\n\n") != 2 || r.Header.Get("Content-Type") != "text/event-stream" {
		t.Errorf("as an event stream: %q %q", r.Header.Get("Content-Type"), r.Body)
	}
}

func TestHistoryCounts(t *testing.T) {
	t.Parallel()
	d, log := historyDoor(t)
	fillLog(t, log)
	const app, dev = "/as/applications/app1/packages/storage", "/as/applications/app1/devices/dev-1/packages/storage"
	for path, want := range map[string]string{
		app + "/count": `{"count":{"dev-0":3,"dev-1":5}}`, app + "/uplink_message/count": `{"count":{"dev-0":3,"dev-1":3}}`,
		dev + "/count": `{"count":{"dev-1":5}}`, dev + "/join_accept/count": `{"count":{"dev-1":1}}`,
		app + "/count?f_port=2":                   `{"count":{"dev-0":1,"dev-1":1}}`,
		app + "/count?after=2026-02-03T10:06:00Z": `{"count":{"dev-1":1}}`,
		app + "/location_solved/count":            `{"count":{}}`,
	} {
		if got := d.do("GET", path, nil).is(200).Body; got != want {
			t.Errorf("%s gives %s, want %s", path, got, want)
		}
	}
}

func TestHistoryRefusesWhatItDoesNotUnderstand(t *testing.T) {
	t.Parallel()
	d, _ := historyDoor(t)
	const app = "/as/applications/app1/packages/storage"
	for path, name := range map[string]string{
		app + "/uplink": "invalid_type", app + "?limit=-1": "invalid_limit", app + "?limit=x": "invalid_limit", app + "?order=f_cnt": "invalid_order",
		app + "?after=yesterday": "invalid_after", app + "?before=1": "invalid_before", app + "?last=week": "invalid_last", app + "?last=-1h": "invalid_last",
		app + "?last=1h&after=2026-02-03T10:02:00Z": "invalid_last", app + "?f_port=256": "invalid_f_port", app + "?format=xml": "invalid_format",
		app + "?continuation_token=AAAA": "invalid_continuation_token",
	} {
		d.do("GET", path, nil).fails(400, name)
	}
	d.do("GET", "/as/applications/app2/packages/storage", nil).fails(404, "application_not_found")
	newDoor(t).do("GET", app, nil).fails(400, "history_not_available")
}

// A reader that follows the tokens sees every event once, also if others arrive meanwhile.
func TestHistoryPagesFollowEachOther(t *testing.T) {
	t.Parallel()
	d, log := historyDoor(t)
	fillLog(t, log)
	next := 8
	for _, query := range []string{"?limit=3", "?limit=3&order=-received_at", "?limit=1&f_port=2", "?limit=2&last=1000000h"} {
		path := "/as/applications/app1/packages/storage" + query
		before := d.do("GET", strings.Replace(path, "limit=", "limit=9&was=", 1), nil).minutes()
		var got []int
		for token := ""; ; {
			r := d.do("GET", path+"&continuation_token="+token, nil)
			got = append(got, r.minutes()...)
			if token = r.Header.Get(continuationHeader); token == "" {
				break
			}
			if next < 12 {
				keep(t, log, "dev-1", next, messages.EventUplink, `{"f_port":7}`)
				next++
			}
		}
		if !slices.Equal(got[:min(len(got), len(before))], before) {
			t.Errorf("%s: pages give %v, at first there was %v", query, got, before)
		}
		seen := map[int]bool{}
		for _, m := range got {
			if seen[m] {
				t.Errorf("%s: %d came twice in %v", query, m, got)
			}
			seen[m] = true
		}
	}
	token := d.do("GET", "/as/applications/app1/packages/storage?limit=1", nil).is(200).Header.Get(continuationHeader)
	d.do("GET", "/as/applications/app1/packages/storage/uplink_message?continuation_token="+token, nil).fails(400, "invalid_continuation_token")
	d.do("GET", "/as/applications/app1/packages/storage?limit=2&continuation_token="+token, nil).is(200)
}

func TestHistoryAsCSV(t *testing.T) {
	t.Parallel()
	d, log := historyDoor(t)
	keep(t, log, "dev-1", 1, messages.EventUplink, `{"f_port":2,"f_cnt":7,"frm_payload":"AQI=","confirmed":true,
		"decoded_payload":{"temperature":21.5,"text":"=cmd()","pos":{"lat":1,"lon":-2},"list":[1,2],"big":12345678901234567890,"none":null,"ok":true},
		"rx_metadata":[{"rssi":-100,"snr":-3.5},{"rssi":-80,"snr":9}]}`)
	keep(t, log, "dev-1", 2, messages.EventJoin, `{}`)
	r := d.do("GET", "/as/applications/app1/packages/storage?format=csv", nil).is(200)
	if got := r.Header.Get("Content-Type"); !strings.HasPrefix(got, "text/csv") {
		t.Errorf("content type %q", got)
	}
	if got := r.Header.Get("Content-Disposition"); got != `attachment; filename="app1.csv"` {
		t.Errorf("disposition %q", got)
	}
	rows, err := csv.NewReader(strings.NewReader(r.Body)).ReadAll()
	if err != nil || len(rows) != 3 {
		t.Fatalf("%v in %s", err, r.Body)
	}
	at := func(row int, column string) string {
		i := slices.Index(rows[0], column)
		if i < 0 {
			t.Fatalf("no column %s in %v", column, rows[0])
		}
		return rows[row][i]
	}
	for column, want := range map[string]string{
		"received_at": "2026-02-03T10:01:00Z", "device_id": "dev-1", "type": "uplink_message", "f_port": "2", "f_cnt": "7", "confirmed": "true", "frm_payload": "AQI=",
		"gateways": "2", "rssi": "-80", "snr": "9", "decoded_payload.temperature": "21.5", "decoded_payload.text": "'=cmd()", "decoded_payload.pos.lat": "1",
		"decoded_payload.pos.lon": "-2", "decoded_payload.list": "[1,2]", "decoded_payload.big": "12345678901234567890", "decoded_payload.none": "",
		"decoded_payload.ok": "true", "decoded_payload": "",
	} {
		if got := at(1, column); got != want {
			t.Errorf("%s is %q, want %q", column, got, want)
		}
	}
	if at(2, "type") != "join_accept" || at(2, "f_port") != "" || at(2, "decoded_payload.temperature") != "" {
		t.Errorf("the join is %v", rows[2])
	}
}

// What comes under new names after the columns were chosen is not lost.
func TestHistoryAsCSVKeepsLateMembers(t *testing.T) {
	t.Parallel()
	d, log := historyDoor(t)
	for n := range sampledRows {
		keep(t, log, "dev-1", n, messages.EventUplink, `{"decoded_payload":{"a":1}}`)
	}
	keep(t, log, "dev-1", sampledRows, messages.EventUplink, `{"decoded_payload":{"a":2,"late":{"x":"y"}}}`)
	rows, err := csv.NewReader(strings.NewReader(d.do("GET", "/as/applications/app1/packages/storage?format=csv", nil).is(200).Body)).ReadAll()
	if err != nil || len(rows) != sampledRows+2 {
		t.Fatalf("%d rows, %v", len(rows), err)
	}
	last := rows[len(rows)-1]
	if got := last[len(last)-2:]; got[0] != "2" || got[1] != `{"late.x":"y"}` {
		t.Errorf("the last row ends with %q", got)
	}
}

// A large answer is sent while it is read, with the token behind it, and compressed if the client likes that.
func TestHistoryIsStreamed(t *testing.T) {
	t.Parallel()
	d, log := historyDoor(t)
	const n = 2*historyPage + 7
	for i := range n {
		keep(t, log, "dev-1", i, messages.EventUplink, `{"f_port":1}`)
	}
	req := httptest.NewRequest("GET", fmt.Sprintf("%s/as/applications/app1/packages/storage?limit=%d", prefix, n-1), nil)
	req.Header.Set("Authorization", "Bearer "+adminKey)
	req.Header.Set("Accept-Encoding", "br;q=1.0, gzip;q=0.8")
	rec := httptest.NewRecorder()
	d.server.echo.ServeHTTP(rec, req)
	answer := rec.Result()
	if got := answer.Header.Get("Content-Encoding"); got != "gzip" {
		t.Fatalf("encoded as %q", got)
	}
	z, err := gzip.NewReader(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(z)
	if err != nil || bytes.Count(body, []byte("\n")) != n-1 {
		t.Errorf("%d lines, %v", bytes.Count(body, []byte("\n")), err)
	}
	if answer.Trailer.Get(continuationHeader) == "" {
		t.Errorf("no token behind the answer: %v", answer.Trailer)
	}
	// An error is never compressed.
	req.URL.RawQuery = "limit=x"
	if r := d.send(req); r.Header.Get("Content-Encoding") != "" {
		t.Errorf("the error is encoded as %q", r.Header.Get("Content-Encoding"))
	} else {
		r.fails(400, "invalid_limit")
	}
}
